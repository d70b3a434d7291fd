"""The original's geometric training runs, step by step (spec/moe.md, 4.3 and 4.4)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases.moe_geometric import (
    ROTATOR_RULES,
    load_geometric,
    named_terms,
    objective,
    read_number,
)
from jaxgraph.interop.cases.moe_loops import (
    ADAMW,
    History,
    cosine_periodic,
    descend,
    standard_loss,
    trained_part,
    with_trained,
)
from jaxgraph.interop.cases.moe_model import read_mask, read_tokens, start_ghosts
from jaxgraph.interop.torch import to_torch
from jaxgraph.moe.geometric import Terms
from jaxgraph.moe.rotator import Rotator

RUNS = ("geometric_fast", "geometric")
ADAM = optax.scale_by_adam()
FAST_WEIGHT = 0.001
FALLBACK_PERIOD = {"rotation": 1000, "experts": 100, "ghosts": 100}
"""Of the cosines, where `max_steps` is 0 (spec 4.4)."""


def check_run(case: Case, checks: Checks, name: str) -> History:
    """Runs one of the loops and compares what only geometric runs have.

    Returns:
      The run in the shape of the other loops, to be compared as they are.
    """
    golden = load_geometric(case)
    settings = golden.settings["geometric"]
    tokens = read_tokens(case, "in/input_ids", golden.config, axes=3)
    mask = read_mask(case, tokens)
    expert = read_number(case, settings, "expert_learning_rate")
    base = {
        "rotation": read_number(case, settings, "geometric_learning_rate"),
        "experts": expert,
        # Also that of the ghosts: the original gives every group of experts this rate.
        **({"ghosts": expert} if golden.config.ghosts.count else {}),
    }
    steps = int(read_number(case, golden.settings, "max_steps"))

    params, ghosts = golden.params, start_ghosts(golden.config)
    moments = ADAMW.init(trained_part(params)), ADAM.init(params["rotator"])
    seen: dict[str, list] = {}
    used = []
    for step in range(len(tokens)):
        rates = {
            group: cosine_periodic(rate, step, steps or FALLBACK_PERIOD[group])
            for group, rate in base.items()
        }
        used.append(rates)
        row, params, moments, ghosts = _update(
            golden.model, name, params, moments, ghosts, tokens[step], mask[step], rates
        )
        for key, value in row.items():
            seen.setdefault(key, []).append(np.asarray(value))

    out = f"out/{name}/"
    for key, values in seen.items():
        checks.compare(out + key, values, "theta" if key == "theta_after" else "trajectory_loss")
    for key, value in to_torch(params["rotator"], ROTATOR_RULES).items():
        kind = "theta" if key == "theta_parameters" else "weight"
        checks.compare(f"{out}final_rot/{key}", value, kind)
    # The original's log holds one rate per optimiser; a case may hold that of every group.
    every = np.array([list(rates.values()) for rates in used])
    wanted = np.shape(case.arrays.get(out + "lr_used"))
    checks.compare(out + "lr_used", every[:, :2] if wanted[1:] == (2,) else every, "learning_rate")
    params = {key: value for key, value in params.items() if key != "rotator"}
    return History([], [], [], [], params, ghosts)


def fast_objective(model, params, tokens, mask, ghosts):
    """One ordinary pass, padding as targets, and a penalty on angles that turn nothing."""
    loss, ghosts = standard_loss(model, params, tokens, mask, ghosts)
    config = model.config
    angles = Rotator(config.views, config.num_experts, config.width).apply(
        {"params": params["rotator"]}, method="angles"
    )
    penalty = FAST_WEIGHT * jnp.mean(jnp.square(angles))
    return loss + penalty, ({"loss": loss + penalty, "rotation_penalty": penalty}, ghosts)


def full_objective(model, params, tokens, mask, ghosts):
    """All presentations; see `objective`."""
    total, (task, terms, _, ghosts) = objective(model, params, tokens, mask, ghosts)
    row = {"loss": total} | named_terms(task, Terms(*terms), total)
    return total, (row, ghosts)


OBJECTIVES = {"geometric_fast": fast_objective, "geometric": full_objective}


@partial(jax.jit, static_argnums=(0, 1))
def _update(model, name, params, moments, ghosts, tokens, mask, rates):
    """One step of both optimisers; everything but experts, ghosts and rotator stays."""

    def loss(experts, rotator):
        tree = with_trained(params, experts) | {"rotator": rotator}
        return OBJECTIVES[name](model, tree, tokens, mask, ghosts)

    experts, rotator = trained_part(params), params["rotator"]
    (grads, turned), (row, ghosts) = jax.grad(loss, argnums=(0, 1), has_aux=True)(experts, rotator)
    updates, first = ADAMW.update(grads, moments[0], experts)
    turned, second = ADAM.update(turned, moments[1])
    experts = descend(experts, updates, rates)
    rotator = jax.tree.map(lambda p, u: p - rates["rotation"] * u, rotator, turned)
    row = row | {"theta_after": rotator["theta"]}
    params = with_trained(params, experts) | {"rotator": rotator}
    return row, params, (first, second), ghosts
