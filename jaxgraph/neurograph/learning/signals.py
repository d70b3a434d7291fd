"""What nodes emit: the pixel's signal, and the gate that turns a sum into a pair of indices.

A sum is rounded to a point of a grid, and the grid's table says which phase bin and which magnitude
bin come nearest to it: quantising is a lookup. Above e, the largest magnitude, it saturates.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from jaxgraph.neurograph.config.learning import Cell
from jaxgraph.neurograph.learning.fixed import make_integer_tables, phasors
from jaxgraph.neurograph.tables import Tables

SILENT = -1
"""Magnitude index of a node that sends nothing."""
GREYS = 256
DARK = 32
"""The brightest grey value that is silent under input `magnitude`."""


class Grid(NamedTuple):
    """The states of a node by its rounded sum."""

    reach: int
    """Units of the largest sum told apart, in either direction."""
    limit: int
    """The gate opens above so many units of the real part."""
    phase: Int32[np.ndarray, " g"]
    mag: Int32[np.ndarray, " g"]
    """Indices, `SILENT` where the gate is closed."""


def make_grid(cell: Cell, tables: Tables) -> Grid:
    """The grid of a cell: points ``0..reach`` of the real part, row by row, each with all points
    ``-reach..reach`` of the imaginary part if the cell sums phasors."""
    unit = 2.0**cell.state_bits
    reach, limit = int(np.ceil(np.e * unit)), int(cell.threshold * unit)
    real = np.arange(reach + 1) / unit
    imaginary = np.arange(-reach, reach + 1) / unit if cell.kind == "phasor" else np.zeros(1)
    point = real[:, None] + 1j * imaginary[None]
    turns = np.angle(point) / tables.phase_width
    phase = np.floor(turns + 0.5).astype(np.int32) % cell.phase_bins
    mag = np.where(real[:, None] * unit > limit, _nearest(tables, np.abs(point)), SILENT)
    return Grid(reach, limit, phase.ravel(), mag.astype(np.int32).ravel())


def grid_signals(
    grid: Grid, cell: Cell, tables: Tables
) -> Int32[np.ndarray, "parts g"]:
    """What each point of the grid emits, in units of the state."""
    found = phasors(make_integer_tables(tables), grid.phase, grid.mag, cell.state_bits)
    parts = 2 if cell.kind == "phasor" else 1
    return np.stack([np.where(grid.mag == SILENT, 0, part) for part in found[:parts]])


def grey_indices(cell: Cell, tables: Tables) -> tuple[np.ndarray, np.ndarray]:
    """Phase and magnitude index of each grey value, int32 ``[256]``."""
    grey = np.arange(GREYS)
    if cell.input == "phase":
        phase = np.floor(grey / (GREYS - 1) * cell.phase_bins / 2 + 0.5)
        mag = np.full(GREYS, _nearest(tables, np.ones(1))[0])
    else:
        phase = np.zeros(GREYS)
        mag = _nearest(tables, np.exp(2 * grey / (GREYS - 1) - 1))
        mag = np.where(grey <= DARK, SILENT, mag)
    return phase.astype(np.int32), mag.astype(np.int32)


def grey_signals(cell: Cell, tables: Tables) -> Int32[np.ndarray, "g parts"]:
    """What an input node emits for each grey value; phase 0 has no imaginary part."""
    phase, mag = grey_indices(cell, tables)
    found = phasors(make_integer_tables(tables), phase, mag, cell.state_bits)
    parts = 2 if cell.kind == "phasor" and cell.input == "phase" else 1
    return np.stack([np.where(mag == SILENT, 0, part) for part in found[:parts]], axis=1)


def make_gate(cell: Cell, tables: Tables):
    """``gate(sums [..., parts * d]) -> signals``, both in units of the state, all real parts before
    all imaginary ones. Its derivative is 1 (straight-through) where the sum is not saturated and
    the gate open or closed by less than the cell's window, else 0."""
    grid = make_grid(cell, tables)
    lowest = grid.limit - cell.window * 2.0**cell.state_bits
    table, reach = grid_signals(grid, cell, tables).astype(np.float32), grid.reach

    def points(sums):
        return jnp.floor(sums + 0.5)

    def passes(sums):
        parts = jnp.split(points(sums), len(table), axis=-1)
        squared = sum(part**2 for part in parts)
        keep = (parts[0] > lowest) & (squared < reach**2)
        return jnp.concatenate([keep] * len(parts), axis=-1)

    @jax.custom_vjp
    def gate(sums: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        parts = jnp.split(points(sums), len(table), axis=-1)
        at = jnp.clip(parts[0], 0, reach).astype(jnp.int32)
        if len(parts) == 2:
            at = at * (2 * reach + 1) + jnp.clip(parts[1], -reach, reach).astype(jnp.int32) + reach
        columns = [jnp.asarray(column).at[at].get(mode="promise_in_bounds") for column in table]
        return jnp.concatenate(columns, axis=-1)

    gate.defvjp(lambda sums: (gate(sums), passes(sums)), lambda keep, g: (jnp.where(keep, g, 0),))
    return gate


def _nearest(tables: Tables, size: np.ndarray) -> np.ndarray:
    """Index of the nearest magnitude on the rising branch of the table, on a logarithmic scale."""
    angle = np.linspace(-np.pi, np.pi, tables.mag_bins)
    rising = np.flatnonzero(np.abs(angle) <= np.pi / 2 + 1e-9)
    levels = np.sin(angle[rising])
    logs = np.clip(np.log(np.maximum(size, 1e-9)), -1, 1)
    return rising[np.searchsorted((levels[1:] + levels[:-1]) / 2, logs)]
