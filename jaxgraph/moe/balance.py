"""Losses and measures of a router: even loads, small logits, and a detector of collapse.

All losses are means over real tokens, so micro-batches and devices add up to the whole batch. What
is not a mean, such as the largest load, is made from the means afterwards (`summarised`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import entr
from jaxtyping import Array, Float

from jaxgraph.moe.config import Router
from jaxgraph.moe.router import Routing

LOADS = "router/loads"
"""Key under which `Loads` travel among the metrics of a step, until `summarised` reads them."""


class Loads(NamedTuple):
    """Means of each layer and node over real tokens."""

    assigned: Float[Array, "l n"]
    """Share of the assignments; sums to 1."""
    probability: Float[Array, "l n"]
    """The router's; sums to 1."""
    levels: Float[Array, "l n"]
    """1 for primaries, then the ghosts'."""


def row_means(
    values: Float[Array, "b t n"], mask: Float[Array, "b t"]
) -> Float[Array, "b n"]:
    """Mean of each row over the tokens that `mask` counts; 0 for rows without any."""
    total = jnp.einsum("btn,bt->bn", values, mask)
    return total / jnp.maximum(mask.sum(1), 1)[:, None]


def balance_loss(routing: Routing, mask: Float[Array, "b t"]) -> Float[Array, ""]:
    """Σ_e f_e p_e / s_e of each row, weighted by its real tokens.

    f_e is an expert's share of the row's assignments, p_e its mean probability and s_e = 1/P its
    fair share: P Σ f p of GShard (Lepikhin et al., 2020) and Switch (Fedus et al., 2021, eq. 4). 1
    when loads are even, P / top_k when the same experts serve all tokens. With ghosts s_e goes by
    level.

    A product of means over a batch would not add up over micro-batches, so means are taken per row,
    as in the sequence-wise loss of DeepSeek-V3 (2024). That asks for more: each row is to use all
    experts.
    """
    assigned = row_means(routing.served, mask) / routing.chosen.shape[-1]
    probability = row_means(routing.probabilities, mask)
    levels = routing.levels
    per_share = jnp.where(levels > 0, levels.sum() / jnp.where(levels > 0, levels, 1), 0)
    rows = jnp.einsum("bn,bn,n->b", assigned, probability, per_share)
    return jnp.sum(rows * mask.sum(1)) / jnp.maximum(mask.sum(), 1)


def z_loss(routing: Routing, mask: Float[Array, "b t"]) -> Float[Array, ""]:
    """Mean squared logarithm of Σ exp(logit): the router z-loss of ST-MoE (Zoph et al., 2022)."""
    square = jnp.square(jax.nn.logsumexp(routing.logits, -1))
    return jnp.sum(square * mask) / jnp.maximum(mask.sum(), 1)


def router_losses(
    layers: Sequence[Routing], options: Router, mask: Float[Array, "b t"]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What training adds to the cross-entropy, summed over layers as in Switch; and metrics."""
    balance = [balance_loss(routing, mask) for routing in layers]
    z = [z_loss(routing, mask) for routing in layers]
    losses = {
        "loss/router_balance": options.balance_weight * sum(balance),
        "loss/router_z": options.z_weight * sum(z),
    }
    metrics: dict[str, Any] = {LOADS: measure_loads(layers, mask)}
    for i, routing in enumerate(layers):
        metrics[f"router/balance/layer_{i}"] = balance[i]
        metrics[f"router/z/layer_{i}"] = z[i]
        entropy = relative_entropy(routing.probabilities, routing.levels)
        metrics[f"router/token_entropy/layer_{i}"] = (
            jnp.sum(entropy * mask) / jnp.maximum(mask.sum(), 1)
        )
    return losses, metrics


def relative_entropy(
    probabilities: Float[Array, "*batch n"], levels: Float[Array, " n"]
) -> Float[Array, "*batch"]:
    """Entropy over that of the uniform distribution over nodes awake: 0 to 1."""
    return entr(probabilities).sum(-1) / jnp.log(jnp.maximum((levels > 0).sum(), 2))


def measure_loads(layers: Sequence[Routing], mask: Float[Array, "b t"]) -> Loads:
    """Loads of all layers, over the tokens that `mask` counts."""

    def means(values):
        return jnp.einsum("btn,bt->n", values, mask) / jnp.maximum(mask.sum(), 1)

    return Loads(
        jnp.stack([means(routing.served) / routing.chosen.shape[-1] for routing in layers]),
        jnp.stack([means(routing.probabilities) for routing in layers]),
        jnp.stack([routing.levels for routing in layers]),
    )


def load_metrics(loads: Loads, options: Router) -> dict[str, Any]:
    """What follows from a step's loads.

    router/load/layer_i/expert_e: share of the assignments; ghosts follow the primaries.
    router/load_max/layer_i: the largest load over the fair share; 1 when loads are even.
    router/entropy/layer_i: entropy of the mean probabilities, 1 when they are even.
    router/collapsed: layers in which a fully awake expert has less than `collapse` times its fair
      share.
    """
    fair = loads.levels / loads.levels.sum(1, keepdims=True)
    relative = jnp.where(fair > 0, loads.assigned / jnp.where(fair > 0, fair, 1), 0)
    starved = (loads.levels >= 1) & (relative < options.collapse)
    metrics = {"router/collapsed": starved.any(1).sum().astype(jnp.float32)}
    for i, (assigned, probability, levels) in enumerate(zip(*loads, strict=True)):
        metrics[f"router/load_max/layer_{i}"] = relative[i].max()
        metrics[f"router/entropy/layer_{i}"] = relative_entropy(probability, levels)
        metrics |= {f"router/load/layer_{i}/expert_{e}": x for e, x in enumerate(assigned)}
    return metrics


def summarised(step: Callable, options: Router) -> Callable:
    """A training step whose metrics hold `load_metrics` instead of the loads themselves."""

    def run(state, frozen, batch):
        state, metrics = step(state, frozen, batch)
        loads = metrics.pop(LOADS)
        return state, metrics | load_metrics(loads, options)

    return run
