"""Sleeping ghosts at work, unheard: to learn in the background, or to find whom to wake.

The task is what the primaries leave over: the part of the target direction (`ghosts.measure`)
outside the span of their updates. The seed names both ideas and builds neither (spec/moe.md, 8).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgraph.moe.config import Model
from jaxgraph.moe.experts import make_block, run_bank
from jaxgraph.moe.ghosts import GhostState, residual
from jaxgraph.moe.layer import expert_updates
from jaxgraph.moe.model import Output
from jaxgraph.moe.rotation import make_turns
from jaxgraph.nn.attention import causal_mask


class Rehearsal(NamedTuple):
    """Token means of each ghost that rehearses, 0 for the others; they average exactly over
    micro-batches and devices."""

    alignment: Float[Array, "l g"]
    """Cosine between the ghost's update and the residual."""
    scores: Float[Array, "l g"]
    """Share of the residual's squared length along the ghost's update: the squared cosine."""


def rehearsing(state: GhostState, levels: Float[Array, "l g"], config: Model) -> Bool[Array, "l g"]:
    """Which ghosts rehearse: those of level 0, in armed layers or, with background learning, in all
    of them. Awake ones have the task's gradient."""
    asleep = levels == 0
    if config.ghosts.background_weight:
        return asleep
    return asleep & state.armed[:, None]


def rehearse(
    params: Any,
    out: Output,
    who: Bool[Array, "l g"],
    target: Float[Array, "b t d"],
    mask: Float[Array, "b t"],
    config: Model,
) -> Rehearsal:
    """Runs the ghosts in `who`, without dropout, on what their layers have read.

    Only they get a gradient, and only with background learning. A layer where nobody rehearses
    costs nothing.

    Args:
      out: of the pass that has just run.
      target: as in `ghosts.measure`.
      mask: which tokens count.
    """
    stop = jax.lax.stop_gradient
    parts = []
    for i, layer in enumerate(out.layers):
        own = params[f"layer_{i}"]
        bank = own["ghosts"] if config.ghosts.background_weight else stop(own["ghosts"])
        updates = expert_updates(layer, config)
        rest = stop((out.streams[i], updates, own.get("rotation"), target, mask))
        run = jax.checkpoint(lambda *args: _rehearse_layer(*args, config))
        nothing = lambda *_: Rehearsal(*jnp.zeros((2, config.ghosts.count)))  # noqa: E731
        parts.append(jax.lax.cond(who[i].any(), run, nothing, bank, who[i], *rest))
    return Rehearsal(*(jnp.stack(values) for values in zip(*parts, strict=True)))


def _rehearse_layer(
    bank: Any,
    who: Bool[Array, " g"],
    x: Float[Array, "b t d"],
    updates: Float[Array, "p b t d"],
    rotation: Any,
    target: Float[Array, "b t d"],
    mask: Float[Array, "b t"],
    config: Model,
) -> Rehearsal:
    turns, origins = None, x[None]
    if rotation is not None:
        ghosts = jax.tree.map(lambda p: p[config.num_experts :], rotation)
        turns = make_turns(config.rotation, ghosts)
        origins = jax.vmap(lambda turn: turn.origin(x))(turns)
    outputs, _ = run_bank(
        make_block(config), bank, x, causal_mask(x.shape[1]), train=False, dropout_key=None,
        loop=config.expert_loop, levels=who.astype(jnp.float32), turns=turns,
    )
    left = residual(updates, target)
    cosine = _cosine((outputs - origins).astype(jnp.float32), left[None])
    weight = mask / jnp.maximum(mask.sum(), 1)
    mean = lambda values: jnp.where(who, jnp.einsum("gbt,bt->g", values, weight), 0)  # noqa: E731
    return Rehearsal(mean(cosine), mean(jnp.square(cosine)))


def _cosine(
    x: Float[Array, "g b t d"], y: Float[Array, "1 b t d"]
) -> Float[Array, "g b t"]:
    """0, and no gradient, where a vector is 0."""
    square = jnp.sum(jnp.square(x), -1) * jnp.sum(jnp.square(y), -1)
    some = square > 1e-30
    return jnp.where(some, jnp.sum(x * y, -1) / jnp.sqrt(jnp.where(some, square, 1)), 0)
