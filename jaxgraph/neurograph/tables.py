"""Lookup tables of phases and magnitudes (spec/neurograph.md, section 2).

The phase table holds cos(2 pi i / N) for N bins. The magnitude table holds exp(sin x) at M points
of [-pi, pi], both ends included: between 1/e and e, rising and falling, so that a larger index is
no larger value.
"""

import functools
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

LOWEST, HIGHEST = -3.0, 3.0
"""Range of magnitudes in the original's older exponential table, which still sets its bin width."""


@dataclass(frozen=True, eq=False)
class Tables:
    """All tables of N phase bins and M magnitude bins, float32; constants of a program."""

    phase_bins: int
    mag_bins: int
    cos: Float32[np.ndarray, " p"]
    sin: Float32[np.ndarray, " p"]
    exp_sin: Float32[np.ndarray, " m"]
    exp_sin_slope: Float32[np.ndarray, " m"]
    """cos(x) exp(sin x): the derivative by the angle x."""

    @property
    def phase_width(self) -> float:
        """Angle of a phase bin."""
        return 2 * np.pi / self.phase_bins

    @property
    def mag_width(self) -> float:
        """Angle of a magnitude bin."""
        return 2 * np.pi / (self.mag_bins - 1)

    @property
    def seed_mag_width(self) -> float:
        """What the original takes for the width of a magnitude bin (defect D3)."""
        return (HIGHEST - LOWEST) / self.mag_bins

    def signal(
        self, phase: Int[Array, "*n"], mag: Int[Array, "*n"]
    ) -> Float[Array, "*n"]:
        """cos(phase) exp(sin mag) of indices; those outside a table take its nearest end."""
        return look_up(self.cos, phase) * look_up(self.exp_sin, mag)


@functools.cache
def make_tables(phase_bins: int, mag_bins: int) -> Tables:
    """The tables of so many bins."""
    theta = 2 * np.pi * np.arange(phase_bins) / phase_bins
    x = np.linspace(-np.pi, np.pi, mag_bins)
    value = np.exp(np.sin(x))
    columns = (np.cos(theta), np.sin(theta), value, np.cos(x) * value)
    return Tables(phase_bins, mag_bins, *(column.astype(np.float32) for column in columns))


def look_up(table: Float[np.ndarray, " m"], index: Int[Array, "*n"]) -> Float[Array, "*n"]:
    """Entries of a table; an index outside it takes its nearest end."""
    return jnp.take(jnp.asarray(table), index, mode="clip")


def wrap(index: Int[Array, "*n"], bins: int) -> Int[Array, "*n"]:
    """The index modulo the bins, never negative."""
    return jnp.mod(index, bins)


def quantise_phase(angle: Float[Array, "*n"], bins: int) -> Int[Array, "*n"]:
    """The bin of an angle in radians."""
    turns = jnp.mod(angle, 2 * np.pi) / (2 * np.pi)
    return quantise_share(turns, bins)


def quantise_magnitude(
    value: Float[Array, "*n"], bins: int, lowest: float = LOWEST, highest: float = HIGHEST
) -> Int[Array, "*n"]:
    """The bin of a value among equal bins of a range; values beyond it take the nearest bin."""
    return quantise_share((jnp.clip(value, lowest, highest) - lowest) / (highest - lowest), bins)


def quantise_share(share: Float[Array, "*n"], bins: int) -> Int[Array, "*n"]:
    """The bin of a number in [0, 1]; numbers beyond it take the nearest bin."""
    return jnp.clip(jnp.floor(share * bins).astype(jnp.int32), 0, bins - 1)
