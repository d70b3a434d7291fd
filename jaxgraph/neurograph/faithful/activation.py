"""What is active, how strongly, and what is pruned (spec/neurograph.md, section 7)."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.neurograph.faithful.cell import CellOut
from jaxgraph.neurograph.tables import Tables, wrap

TARGET_ACTIVE = 800
"""Active nodes above which the threshold rises; below 0.7 of them it falls. Absolute, whatever the
size of the graph, as in the original (defect D28)."""
FALLS_BELOW = 560
FLOOR, CEILING = 0.5, 5.0
"""The threshold after the first step, whatever it was set to."""


class Activation(NamedTuple):
    """Of each node: whether it is active, its indices ``[n, d]``, its strength; and the strength
    below which an active node is pruned. Indices of inactive nodes mean nothing."""

    mask: Any
    phase: Any
    mag: Any
    strength: Any
    threshold: Any


def inject_inputs(
    nodes: int,
    phase: Int[Array, "i d"],
    mag: Int[Array, "i d"],
    tables: Tables,
    min_strength: float,
) -> Activation:
    """The state before the first timestep: the inputs, at strength 1."""
    inputs, width = phase.shape
    pad = ((0, nodes - inputs), (0, 0))
    active = jnp.arange(nodes) < inputs
    return Activation(
        active,
        jnp.pad(wrap(phase, tables.phase_bins), pad),
        jnp.pad(wrap(mag, tables.mag_bins), pad),
        active.astype(jnp.float32),
        jnp.float32(min_strength),
    )


def inject(
    state: Activation, arrived: CellOut, here: Bool[Array, " n"], tables: Tables
) -> Activation:
    """Adds one message to each node that has one: to its indices and strength if it was active, as
    its indices and strength if it was not."""
    add = here & state.mask
    phase = arrived.phase + jnp.where(add[:, None], state.phase, 0)
    mag = arrived.mag + jnp.where(add[:, None], state.mag, 0)
    strength = arrived.strength + jnp.where(add, state.strength, 0.0)
    return state._replace(
        mask=state.mask | here,
        phase=jnp.where(here[:, None], wrap(phase, tables.phase_bins), state.phase),
        mag=jnp.where(here[:, None], wrap(mag, tables.mag_bins), state.mag),
        strength=jnp.where(here, strength, state.strength),
    )


def adapt_threshold(threshold: Float[Array, ""], active: Int[Array, ""], nodes: int) -> Array:
    """The threshold after a step with so many active nodes."""
    rising = threshold * (1 + 0.1 * active / TARGET_ACTIVE)
    falling = jnp.where(active < FALLS_BELOW, threshold * 0.95, threshold)
    threshold = jnp.where(active > TARGET_ACTIVE, rising, falling)
    threshold = jnp.where(active > 0.9 * nodes, 2 * threshold, threshold)
    return jnp.clip(threshold, FLOOR, CEILING)


def decay_and_prune(
    state: Activation, decay: float, is_output: Bool[np.ndarray, " n"]
) -> Activation:
    """Weakens all, and drops those below the threshold that are no outputs."""
    threshold = adapt_threshold(state.threshold, jnp.sum(state.mask), len(is_output))
    strength = state.strength * decay
    mask = state.mask & ((strength >= threshold) | is_output)
    return state._replace(
        mask=mask, strength=jnp.where(mask, strength, 0.0), threshold=threshold
    )
