"""Golden cases of the original's first commit: older couplers, orthogonality, adaptive strength.

What the entries mean stands in the README of the cases and in spec/moe.md, section 8.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.errors import UserError
from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases import moe_triple
from jaxgraph.interop.cases.moe_model import Golden, language_model_loss, read_tokens
from jaxgraph.interop.rules.moe import OLDER_RULES, shapes_of
from jaxgraph.interop.rules.moe_older import older_config
from jaxgraph.interop.torch import to_jax
from jaxgraph.moe import orthogonality, strength
from jaxgraph.moe.model import LanguageModel
from jaxgraph.moe.pairwise import PairwiseCoupler, hear
from jaxgraph.moe.penalty import penalty

FORMS = {"gram_identity": "gram", "cosine_similarity": "cosine"}
DECAYS = ("cosine", "exponential", "linear", "step")


def check(case: Case, checks: Checks) -> None:
    """Everything that the case has of the first commit."""
    settings = case.meta.get("config")
    if not isinstance(settings, dict):
        raise UserError(f"entry 'config' of {case.path} has no object `config` with the settings")
    config = older_config(settings)
    tensors = to_jax(case.below("param/"), shapes_of(config), OLDER_RULES)
    params = jax.tree.map(jnp.asarray, tensors)
    golden = Golden(settings, config, LanguageModel(config), params)
    check_outputs(case, checks)
    check_weights(checks, golden)
    check_coupler(case, checks, golden)
    check_model(case, checks, golden)
    check_strength(case, checks, golden)
    moe_triple.check(case, checks)


def check_outputs(case: Case, checks: Checks) -> None:
    """Output orthogonality of free features, and its gradient."""
    stack = jnp.asarray(case["in/expert_stack"])
    mask = jnp.ones(stack.shape[:2])
    for name, form in FORMS.items():
        for over in ("mean", "pool"):

            def loss(stack, form=form, over=over):
                return orthogonality.output_loss(jnp.moveaxis(stack, 2, 0), mask, form, over)

            value, grad = jax.jit(jax.value_and_grad(loss))(stack)
            kind = "gram" if form == "gram" else "value"
            checks.compare(f"out/output_orth/{name}_{over}", value, kind)
            kind = "gram" if form == "gram" else "gradient"
            checks.compare(f"grad_in/output_orth/{name}_{over}", grad, kind)


def check_weights(checks: Checks, golden: Golden) -> None:
    """Un-normalised weight orthogonality of the first layer."""
    for target in orthogonality.MATRICES:
        rows = orthogonality.weight_rows(golden.params["layer_0"]["experts"], target)
        checks.compare(f"out/weight_gram/{target}", orthogonality.weight_loss(rows, "gram"), "gram")


def check_coupler(case: Case, checks: Checks, golden: Golden) -> None:
    """The first layer's coupler on free features: what its first round adds, and its output."""
    config, nodes = golden.config, jnp.moveaxis(jnp.asarray(case["in/expert_stack"]), 2, 0)
    levels = jnp.ones(config.num_experts)
    if nodes.shape[0] != config.num_experts or nodes.shape[-1] != config.width:
        raise UserError(
            f"in/expert_stack of {case.path} has {nodes.shape[0]} experts of width "
            f"{nodes.shape[-1]}; expected {config.num_experts} of {config.width}"
        )
    coupler = PairwiseCoupler(
        config.hypergraph, config.num_experts, config.num_experts, config.width, jnp.float32
    )
    apply = partial(coupler.apply, {"params": golden.params["layer_0"]["coupler"]})
    coupling = apply(method="coupling")
    checks.compare("out/gnn_conv0", jnp.moveaxis(hear(coupling[0], nodes, levels), 0, 2), "value")
    checks.compare("out/gnn_coupler", apply(nodes, levels, method="couple"), "value")


def check_model(case: Case, checks: Checks, golden: Golden) -> None:
    """Logits, loss, and the orthogonality losses of the layers' outputs and weights."""
    tokens = jnp.asarray(read_tokens(case, "in/input_ids", golden.config))

    @jax.jit
    def run(params):
        out = golden.model.apply({"params": params}, tokens)
        logits = golden.model.apply({"params": params}, out.hidden, method="logits")
        return logits, [layer.outputs for layer in out.layers]

    logits, outputs = run(golden.params)
    checks.compare("out/logits", logits, "value")
    checks.compare("out/lm_loss", language_model_loss(logits, tokens), "value")
    if not golden.settings.get("adaptive_weight_orthogonality"):
        check_total(case, checks, golden, outputs)


def check_total(case: Case, checks: Checks, golden: Golden, outputs: list[jax.Array]) -> None:
    """All orthogonality losses together, at each step of the warm-up that the case has."""
    mask = jnp.ones(outputs[0].shape[1:3])
    for name in case.below("out/total_orth_step"):
        if name.isdecimal():
            total = penalty(golden.params, outputs, mask, int(name), None, golden.config).loss
            checks.compare(f"out/total_orth_step{name}", total, "gram")


def check_strength(case: Case, checks: Checks, golden: Golden) -> None:
    """The controller of the weights' strength, update by update, under every schedule."""
    options = golden.config.orthogonality.adaptive
    initial = golden.settings["initial_weight_orthogonality_strength"]
    if not case.below("out/adaptive/"):
        return
    weights = jnp.asarray(case["in/adaptive_weights"])
    updates, layers, experts = weights.shape[:3]
    rows = weights.reshape(updates, layers, experts, -1)
    scores = jax.vmap(jax.vmap(orthogonality.specialization))(rows)
    overall = jnp.concatenate([scores, scores.mean(1, keepdims=True)], 1)
    checks.compare("out/adaptive/specialization", overall, "statistic")
    start = strength.initial_strengths(options, layers, initial)
    checks.compare("out/adaptive/initial", start, "statistic")
    for decay in DECAYS:
        adaptive = replace(options, decay=decay)
        factors = case.arrays.get(f"out/adaptive/{decay}_factor", np.zeros(0))
        times = jnp.arange(len(factors)) * 2 * adaptive.every
        name = f"out/adaptive/{decay}"
        checks.compare(f"{name}_factor", strength.time_factor(times, adaptive), "statistic")
        checks.compare(f"{name}_strengths", walk(adaptive, initial, scores), "statistic")


def walk(adaptive: Any, initial: float, scores: jax.Array) -> jax.Array:
    """Strengths after each update, `[updates, l]`."""
    state = strength.init_strength(adaptive, scores.shape[1], initial)

    def update(state, score):
        # Between two updates nothing happens but the count.
        state = strength.advance(state, score, jnp.zeros(()), initial, adaptive)
        return state.replace(step=state.step + adaptive.every - 1), state.values

    return jax.lax.scan(update, state, scores)[1]
