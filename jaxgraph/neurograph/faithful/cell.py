"""The modular cell: indices add up, tables turn them into a signal (spec/neurograph.md, 5)."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgraph.neurograph.tables import Tables, wrap


class Indices(NamedTuple):
    """Bins of phase and magnitude, ``[..., d]``, int32: of nodes, or steps to add to them."""

    phase: Any
    mag: Any


class CellOut(NamedTuple):
    """Indices ``[..., d]``, signal ``[..., d]``, strength ``[...]`` (the signal's sum)."""

    phase: Any
    mag: Any
    signal: Any
    strength: Any


def cell(
    tables: Tables,
    context_phase: Int[Array, "*n d"],
    context_mag: Int[Array, "*n d"],
    node_phase: Int[Array, "*n d"],
    node_mag: Int[Array, "*n d"],
) -> CellOut:
    """What a context becomes at a node; the strength may be negative."""
    phase = wrap(context_phase + node_phase, tables.phase_bins)
    mag = wrap(context_mag + node_mag, tables.mag_bins)
    signal = tables.signal(phase, mag)
    return CellOut(phase, mag, signal, jnp.sum(signal, -1))


def routing_strength(
    a: Int[Array, "*n d"], b: Int[Array, "*n d"], bins: int
) -> Float[Array, "*n d"]:
    """1 where two phases are equal, 0 where they are opposite, linear between."""
    apart = jnp.abs(a - b)
    return 1 - 2 * jnp.minimum(apart, bins - apart) / bins


def phase_similarity(
    a: Int[Array, "*n d"], b: Int[Array, "*n d"], bins: int
) -> Float[Array, "*n"]:
    """Mean over dimensions of (cos of the angle between + 1) / 2."""
    return jnp.mean((jnp.cos(2 * jnp.pi * (a - b) / bins) + 1) / 2, -1)
