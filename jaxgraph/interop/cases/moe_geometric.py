"""Golden cases of the seed's rotator: its matrices, its loss terms, its objective on a model."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgraph.errors import UserError
from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases.moe_model import Golden, load_golden, read_tokens, start_ghosts
from jaxgraph.interop.rule import Rule
from jaxgraph.interop.rules.moe import RULES, shapes_of
from jaxgraph.interop.torch import to_jax, to_torch
from jaxgraph.moe.config import Geometric, Views
from jaxgraph.moe.geometric import Terms, mean_view, run_views, view_terms
from jaxgraph.moe.ghosts import GhostState
from jaxgraph.moe.model import LanguageModel
from jaxgraph.moe.rotation import cayley
from jaxgraph.moe.rotator import RIDGE, Rotator, givens, householder
from jaxgraph.nn.losses import cross_entropy

ROTATOR_RULES = (
    Rule("theta", "theta_parameters"),
    Rule("scale", "rotation_scales"),
    Rule("shift", "rotation_shifts"),
    Rule("basis", "shared_basis"),
    Rule("coefficients", "expert_coefficients"),
)
IGNORED = -100
"""Targets that do not count."""


def check_rotator(case: Case, checks: Checks) -> None:
    """Matrices and presentations, loss terms on free tensors, and the objective on a model."""
    golden = load_geometric(case)
    _check_matrices(case, checks, golden)
    for tag in ("active", "inactive"):
        if f"in/{tag}/logits" in case.arrays:
            _check_terms(case, checks, tag, golden.config.geometric)
    if "in/multi/input_ids" in case.arrays:
        _check_objective(case, checks, golden)


def load_geometric(case: Case) -> Golden:
    """The case's model in train mode `geometric`, with the rotator among its parameters."""
    golden = load_golden(case)
    settings = golden.settings.get("geometric")
    if not isinstance(settings, dict):
        raise UserError(f"the config of {case.path} has no object `geometric` with the settings")
    get = partial(read_number, case, settings)
    tensors = case.below("rot/")
    if np.ndim(tensors.get("theta_parameters")) != 2:
        raise UserError(f"{case.path} has no matrix rot/theta_parameters")
    config = replace(
        golden.config,
        train_mode="geometric",
        views=Views(
            # The original does not look at its option `rotation_matrix_type` (spec D8).
            dimensions=tensors["theta_parameters"].shape[1],
            max_angle=get("max_rotation_magnitude"),
            shared_basis="shared_basis" in tensors,
        ),
        geometric=Geometric(
            orthogonality_weight=get("orthogonality_weight"),
            efficiency_weight=get("rotation_efficiency_weight"),
            specialization_weight=get("specialization_weight"),
        ),
    )
    rotator = to_jax(tensors, shapes_of(config)["rotator"], ROTATOR_RULES)
    # Experts are looked up by traced numbers, which NumPy's arrays do not know.
    params = jax.tree.map(jnp.asarray, golden.params | {"rotator": rotator})
    return Golden(golden.settings, config, LanguageModel(config), params)


def read_number(case: Case, settings: dict[str, Any], name: str) -> float:
    """A setting that must be a number, 0 or more."""
    value = settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise UserError(f"{name} in the config of {case.path} is {value!r}; expected a number >= 0")
    return float(value)


def rotator_of(golden: Golden) -> Rotator:
    """The model's rotator, on its own."""
    config = golden.config
    return Rotator(config.views, config.num_experts, config.width)


def present_all(
    rotator: Rotator, params: Any, x: Float[Array, "b t d"]
) -> Float[Array, "p b t d"]:
    """Every expert's presentation of x."""
    return jax.vmap(lambda expert: rotator.apply({"params": params}, x, expert))(
        jnp.arange(rotator.count)
    )


def objective(
    model: LanguageModel,
    params: Any,
    tokens: Int[Array, "b t"],
    mask: Int[Array, "b t"],
    ghosts: GhostState | None,
) -> tuple[Float[Array, ""], tuple]:
    """The seed's objective: inputs and targets shifted outside the model; padding counts.

    Returns:
      The total, and (cross-entropy, terms, hidden states, ghosts).
    """
    config = model.config
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    hidden, ghosts, _ = run_views(
        model, params, inputs, ghosts, jnp.arange(config.num_experts), summarise=lambda out: (),
        attention_mask=mask[:, :-1],
    )
    logits = model.apply({"params": params}, mean_view(hidden), method="logits")
    task = cross_entropy(logits, targets).mean()
    rotator = Rotator(config.views, config.num_experts, config.width)
    angles = rotator.apply({"params": params["rotator"]}, method="angles")
    terms = view_terms(hidden, angles, jnp.ones(inputs.shape))
    return task + terms.total(config.geometric), (task, terms, hidden, ghosts)


def named_terms(task: Array, terms: Terms, total: Array) -> dict[str, Array]:
    """The objective's parts by the names of the cases."""
    return {
        "task_loss": task,
        "orthogonality_loss": terms.orthogonality,
        "rotation_efficiency_loss": terms.efficiency,
        "specialization_loss": terms.specialization,
        "total_loss": total,
    }


def _check_matrices(case: Case, checks: Checks, golden: Golden) -> None:
    rotator, params, size = rotator_of(golden), golden.params["rotator"], golden.config.width
    # Rows of the identity turn into rows of R transposed, and this R is symmetric.
    eye, theta = jnp.eye(size)[None], params["theta"]
    matrices = jax.vmap(lambda one: householder(eye, one)[0])(theta)
    checks.compare("out/householder", matrices, "value")
    angles = rotator.apply({"params": params}, method="angles")
    checks.compare("out/angles", angles, "value")
    matrices = jax.vmap(lambda one: cayley(one, size, RIDGE))(angles)
    checks.compare("out/cayley", matrices, "value")
    matrices = jax.vmap(lambda one: givens(one, size))(angles)
    checks.compare("out/givens", matrices, "value")
    mean_square, full = jnp.mean(jnp.square(angles)), _efficiency(angles)
    checks.compare("out/efficiency_loss_meansq", mean_square, "value")
    checks.compare("out/efficiency_loss", full, "value")
    if "in/x" not in case.arrays:
        return
    x = jnp.asarray(case["in/x"])
    checks.compare("out/rotated", present_all(rotator, params, x), "value")
    if "rot_givens/projectors" in case.arrays:
        turned = {"theta": theta, "projector": jnp.asarray(case["rot_givens/projectors"])}
        views = replace(rotator.config, kind="givens", shared_basis=False)
        other = rotator.clone(config=views)
        checks.compare("out/givens_rotated", present_all(other, turned, x), "value")
    if "in/probe" in case.arrays:
        _check_probe(case, checks, rotator, params, x)


def _check_probe(case: Case, checks: Checks, rotator: Rotator, params: Any, x: Array) -> None:
    def value(params, x):
        angles = rotator.apply({"params": params}, method="angles")
        return jnp.sum(present_all(rotator, params, x) * case["in/probe"]) + _efficiency(angles)

    found, (grads, grad_x) = jax.value_and_grad(value, argnums=(0, 1))(params, x)
    checks.compare("out/probe_value", found, "value")
    checks.compare("grad_in/x", grad_x, "gradient")
    _compare_rotator(checks, "grad_rot/", grads)


def _check_terms(case: Case, checks: Checks, tag: str, weights: Geometric) -> None:
    targets = jnp.asarray(case[f"in/{tag}/targets"].astype(np.int32))
    counted = targets != IGNORED

    def total(inputs):
        entropy = cross_entropy(inputs["logits"].mean(0), jnp.where(counted, targets, 0))
        task = jnp.sum(entropy * counted) / counted.sum()
        # The original leaves out ignored targets in the task's loss only.
        terms = view_terms(inputs["hidden"], inputs["angles"], jnp.ones(targets.shape))
        loss = task + terms.total(weights)
        return loss, named_terms(task, terms, loss)

    names = ("logits", "hidden", "angles")
    inputs = {name: jnp.asarray(case[f"in/{tag}/{name}"]) for name in names}
    grads, found = jax.grad(total, has_aux=True)(inputs)
    for name, value in found.items():
        checks.compare(f"out/{tag}/{name}", value, "value")
    for name, grad in grads.items():
        checks.compare(f"grad_in/{tag}/{name}", grad, "gradient")


def _check_objective(case: Case, checks: Checks, golden: Golden) -> None:
    tokens = read_tokens(case, "in/multi/input_ids", golden.config)
    mask = case.shaped("in/multi/attention_mask", tokens.shape).astype(np.int32)
    model, params = golden.model, golden.params

    @jax.jit
    def run(params, tokens, mask):
        return jax.value_and_grad(
            lambda params: objective(model, params, tokens, mask, start_ghosts(golden.config)),
            has_aux=True,
        )(params)

    (total, (task, terms, hidden, _)), grads = run(params, tokens, mask)
    for name, value in named_terms(task, terms, total).items():
        checks.compare(f"out/multi/{name}", value, "value")
    checks.compare("out/multi/hidden", hidden, "value")
    logits = jax.vmap(lambda h: model.apply({"params": params}, h, method="logits"))(hidden)
    checks.compare("out/multi/logits", logits, "value")
    embedded = params["token_embedding"]["embedding"][tokens[:, :-1]]
    views = present_all(rotator_of(golden), params["rotator"], embedded)
    checks.compare("out/multi/views", views, "value")
    _compare_rotator(checks, "grad_multi_rot/", grads.pop("rotator"))
    ours = to_torch(grads, RULES)
    for key, grad in ours.items():
        checks.compare(f"grad/{key}", grad, "gradient")
    for key in case.meta.get("grad_none", []):
        grad = ours.get(key, np.array(np.nan))  # a weight that we lack agrees with nothing
        checks.compare_with(f"grad/{key}", grad, np.zeros_like(grad), "exact")


def _compare_rotator(checks: Checks, prefix: str, grads: Any) -> None:
    for key, grad in to_torch(grads, ROTATOR_RULES).items():
        checks.compare(prefix + key, grad, "gradient")


def _efficiency(angles: Float[Array, "p r"]) -> Float[Array, ""]:
    """mean(a²) + mean(relu(|a| - 1)²): the original's method that its losses do not use."""
    excess = jax.nn.relu(jnp.abs(angles) - 1)
    return jnp.mean(jnp.square(angles)) + jnp.mean(jnp.square(excess))
