"""Steps of whole bins from gradients, and their application (spec/neurograph.md, section 2).

A gradient times its rate, in bins, decides on a step of one bin up or down, never on more. The
stateless rule drops what is below a tenth of a bin; the accumulating rule gathers it in a residual,
steps from a hundredth of a bin on, and then forgets the residual.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgraph.neurograph.faithful.cell import Indices
from jaxgraph.neurograph.faithful.gradients import IndexGradient
from jaxgraph.neurograph.tables import Tables, wrap

STATELESS_THRESHOLD = 0.1
RESIDUAL_THRESHOLD = 0.01


@dataclass(frozen=True)
class Rates:
    """Learning rates of phases and of magnitudes: numbers, or scalars of a program."""

    phase: Any
    mag: Any


class Residuals(NamedTuple):
    """Bins not yet stepped, ``[..., d]``, float32."""

    phase: Any
    mag: Any


def steps_in_bins(gradient: IndexGradient, tables: Tables, rates: Rates) -> Residuals:
    """Minus rate times gradient, in bins."""
    return Residuals(
        -rates.phase * gradient.phase / tables.phase_width,
        -rates.mag * gradient.mag / tables.seed_mag_width,
    )


def stateless_updates(steps: Residuals) -> Indices:
    """-1, 0 or 1 for each index."""
    return Indices(*(_decide(x, STATELESS_THRESHOLD) for x in steps))


def accumulated_updates(residuals: Residuals, steps: Residuals) -> tuple[Indices, Residuals]:
    """-1, 0 or 1 for each index, and the residuals afterwards."""
    total = [old + new for old, new in zip(residuals, steps, strict=True)]
    updates = Indices(*(_decide(x, RESIDUAL_THRESHOLD) for x in total))
    left = (jnp.where(u == 0, x, 0.0) for u, x in zip(updates, total, strict=True))
    return updates, Residuals(*left)


def apply_updates(
    nodes: Indices, updates: Indices, tables: Tables, wrap_magnitude: bool = False
) -> Indices:
    """Phases wrap around; magnitudes stop at the ends of their table, as in the original (defect
    D16), or wrap too."""
    mag = nodes.mag + updates.mag
    return Indices(
        wrap(nodes.phase + updates.phase, tables.phase_bins),
        wrap(mag, tables.mag_bins) if wrap_magnitude else jnp.clip(mag, 0, tables.mag_bins - 1),
    )


def _decide(steps: Float[Array, "*n"], threshold: float) -> Int[Array, "*n"]:
    return jnp.where(jnp.abs(steps) >= threshold, jnp.sign(steps), 0.0).astype(jnp.int32)
