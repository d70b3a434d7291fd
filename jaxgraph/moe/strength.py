"""Strength of the loss on weights, following the experts' specialization (spec/moe.md, 8).

Every `every` steps: strength_i = strength_i(0) · time · performance_i · emergency, within bounds.
The seed multiplies the last strength instead, so that it ends at a bound after a few updates, and
has a collapse rule that no score can fulfil; both are `rule: original`.
"""

import math
from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.moe.config import Adaptive


class Strength(struct.PyTreeNode):
    """State of the controller; histories are newest last."""

    values: Any
    """[l]: strengths in force."""
    step: Any
    """int32: steps seen."""
    updates: Any
    """int32: updates so far, which is how much of the histories is filled."""
    scores: Any
    """[collapse_window]: mean specialization of the layers at each update."""
    losses: Any
    """[plateau_window]: mean training loss since the update before."""
    loss_sum: Any
    """Sum of the losses since the last update."""


def init_strength(config: Adaptive, layers: int, initial: float) -> Strength:
    """The state before the first step."""
    return Strength(
        values=initial_strengths(config, layers, initial),
        step=jnp.zeros((), jnp.int32),
        updates=jnp.zeros((), jnp.int32),
        scores=jnp.zeros(config.collapse_window),
        losses=jnp.zeros(config.plateau_window),
        loss_sum=jnp.zeros(()),
    )


def initial_strengths(config: Adaptive, layers: int, initial: float) -> Float[Array, " l"]:
    """strength_i(0) = initial · layer_scale^i."""
    return initial * config.layer_scale ** jnp.arange(layers, dtype=jnp.float32)


def time_factor(step: Int[Array, "*n"], config: Adaptive) -> Float[Array, "*n"]:
    """Decay over `decay_updates` updates, from 1 to 0.001 (spec 8)."""
    floor, end = 0.001, config.decay_updates * config.every
    step = jnp.asarray(step, jnp.float32)
    if config.decay == "none":
        return jnp.ones_like(step)
    if config.decay == "cosine":
        done = jnp.minimum(1.0, step / end)
        return floor + (1 - floor) * (1 + jnp.cos(math.pi * done)) / 2
    factor = {
        "exponential": lambda: jnp.exp(-1e-4 * step),
        "linear": lambda: 1 - step / end,
        "step": lambda: 0.5 ** jnp.floor(step / (end / 4)),
    }[config.decay]()
    return jnp.maximum(floor, factor)


def performance_factor(scores: Float[Array, " l"], config: Adaptive) -> Float[Array, " l"]:
    """1.5 below the target's band, 0.7 above it, else 1."""
    low, high = config.target - config.tolerance, config.target + config.tolerance
    return jnp.where(scores < low, 1.5, jnp.where(scores > high, 0.7, 1.0))


def is_plateau(losses: Float[Array, " w"], filled: Int[Array, ""]) -> Bool[Array, ""]:
    """Whether the newer half of the losses is less than 1 % below the older; needs 10 of them."""
    window = len(losses)
    filled = jnp.minimum(filled, window)
    age = jnp.arange(window)[::-1]
    older_size = filled // 2
    newer = age < filled - older_size
    older = (age < filled) & ~newer
    before = jnp.sum(losses * older) / jnp.maximum(older_size, 1)
    after = jnp.sum(losses * newer) / jnp.maximum(filled - older_size, 1)
    return (filled >= 10) & (before - after < 0.01 * jnp.abs(before))


def is_collapse(
    scores: Float[Array, " w"], filled: Int[Array, ""], config: Adaptive
) -> Bool[Array, ""]:
    """Whether the score fell by more than `collapse` over the full window.

    The seed divides the fall by the window's length, which leaves at most 0.02 of it.
    """
    fall = scores[0] - scores[-1]
    if config.rule == "original":
        fall = fall / len(scores)
    return (filled >= len(scores)) & (fall > config.collapse)


def is_due(state: Strength, config: Adaptive) -> Bool[Array, ""]:
    """Whether the coming step updates the strengths: steps 0, every, 2·every, ..."""
    return state.step % config.every == 0


def advance(
    state: Strength,
    scores: Float[Array, " l"],
    loss: Float[Array, ""],
    initial: float,
    config: Adaptive,
) -> Strength:
    """One optimiser step, with the layers' specialization (read only when due) and its loss."""
    due = is_due(state, config)
    loss_sum = state.loss_sum + loss
    mean_loss = loss_sum / jnp.where(state.step == 0, 1, config.every)
    updates = state.updates + 1
    history = jnp.append(state.scores[1:], scores.mean())
    losses = jnp.append(state.losses[1:], mean_loss)
    collapsed = is_collapse(history, updates, config) & ~is_plateau(losses, updates)
    factor = (
        time_factor(state.step, config)
        * performance_factor(scores, config)
        * jnp.where(collapsed, config.emergency, 1.0)
    )
    base = initial_strengths(config, len(scores), initial)
    if config.rule == "original":
        base = state.values
    values = jnp.clip(base * factor, config.lowest, config.highest)
    return Strength(
        values=jnp.where(due, values, state.values),
        step=state.step + 1,
        updates=jnp.where(due, updates, state.updates),
        scores=jnp.where(due, history, state.scores),
        losses=jnp.where(due, losses, state.losses),
        loss_sum=jnp.where(due, 0.0, loss_sum),
    )
