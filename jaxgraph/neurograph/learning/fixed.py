"""Fixed-point numbers: integer tables, and the values of index pairs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from jaxgraph.neurograph.tables import Tables

TABLE_BITS = 14
"""Binary digits behind the point in the integer tables: a product of two entries fits 32 bits."""


class IntegerTables(NamedTuple):
    """The tables of phases and magnitudes in units of ``2 ** -TABLE_BITS``."""

    cos: Int32[np.ndarray, " p"]
    sin: Int32[np.ndarray, " p"]
    mag: Int32[np.ndarray, " m"]


class Pairs(NamedTuple):
    """Phase and magnitude of many edges or nodes: indices, their offsets, gradients or moments."""

    phase: Any
    mag: Any


def make_integer_tables(tables: Tables) -> IntegerTables:
    """The tables, rounded."""
    columns = (tables.cos, tables.sin, tables.exp_sin)
    scaled = (column.astype(np.float64) * (1 << TABLE_BITS) for column in columns)
    return IntegerTables(*(np.round(column).astype(np.int32) for column in scaled))


def phasors(
    tables: IntegerTables,
    phase: Int[Array, "*n"] | Int[np.ndarray, "*n"],
    mag: Int[Array, "*n"] | Int[np.ndarray, "*n"],
    bits: int,
) -> tuple[Any, Any]:
    """cos and sin of the phase times the magnitude, int32, in units of ``2 ** -bits``.

    The same code serves NumPy and JAX.
    """
    down = 2 * TABLE_BITS - bits
    half = 1 << (down - 1)
    size = tables.mag[mag]
    return tuple((table[phase] * size + half) >> down for table in (tables.cos, tables.sin))


def differentiable_phasors(
    tables: Tables, indices: Pairs, offsets: Pairs, bits: int, parts: int
) -> Float[Array, "z ..."]:
    """The phasors of `indices` as whole float32 numbers, with derivatives by `offsets`.

    The derivatives are those of cos(phase) exp(sin x) by the tables' angles, times the width of a
    bin (spec/neurograph.md, section 22; the original forgets the factor cos x, defect D3).

    Args:
      offsets: zeros.
      bits: digits behind the point.
      parts: 1 for the real part, 2 for both.
    """
    whole = IntegerTables(*map(jnp.asarray, make_integer_tables(tables)))
    phase, mag = (x.astype(jnp.int32) for x in indices)
    exact = phasors(whole, phase, mag, bits)
    cos, sin, size, slope = (
        jnp.asarray(t)[i]
        for t, i in (
            (tables.cos, phase), (tables.sin, phase), (tables.exp_sin, mag),
            (tables.exp_sin_slope, mag),
        )
    )  # fmt: skip
    unit = 2.0**bits
    turn, grow = offsets.phase * tables.phase_width * unit, offsets.mag * tables.mag_width * unit
    slopes = (-sin * size * turn + cos * slope * grow, cos * size * turn + sin * slope * grow)
    return jnp.stack([
        jax.lax.stop_gradient(value.astype(jnp.float32)) + by
        for value, by in zip(exact[:parts], slopes[:parts], strict=True)
    ])
