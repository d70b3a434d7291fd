"""Gradient accumulation over samples, per node (spec/neurograph.md, section 13).

The original's trainer calls `should_update` twice a cycle, so that nothing is ever applied (D5);
here one counter decides.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.neurograph.faithful.cell import Indices
from jaxgraph.neurograph.faithful.gradients import IndexGradient
from jaxgraph.neurograph.tables import Tables

SMOOTHING = 0.1
"""Share of a new value in the running means."""


@dataclass(frozen=True)
class Accumulation:
    """How gradients of several samples become one update."""

    steps: int = 8
    """Samples an update."""
    lr_scaling: Literal["sqrt", "linear", "none"] = "sqrt"
    buffer: int = 1500
    """Nodes that may take part in one update."""

    @property
    def lr_scale(self) -> float:
        return {"sqrt": self.steps**0.5, "linear": float(self.steps), "none": 1.0}[self.lr_scaling]


class Buffer(NamedTuple):
    """Running mean and sum of squared deviations of each node's gradients ``[n, d]``, how many they
    are of, samples seen, and the original's two running means over nodes."""

    mean: IndexGradient
    squares: IndexGradient
    count: Any
    samples: Any
    norm: Any
    variance: Any


def init_buffer(nodes: int, width: int) -> Buffer:
    zero = lambda: jnp.zeros((nodes, width))  # noqa: E731
    pair = lambda: IndexGradient(zero(), zero())  # noqa: E731
    scalar = jnp.zeros(())
    return Buffer(
        pair(), pair(), jnp.zeros(nodes, jnp.int32), jnp.zeros((), jnp.int32), scalar, scalar
    )


def accumulate(
    buffer: Buffer, gradient: IndexGradient, present: Bool[Array, " n"], options: Accumulation
) -> Buffer:
    """Takes in one sample's gradients, of the nodes that have one and still find room."""
    known = buffer.count > 0
    new = present & ~known
    room = options.buffer - jnp.sum(known)
    taken = present & (known | (jnp.cumsum(new) <= room))
    count = buffer.count + taken
    weight = jnp.where(taken, 1 / jnp.maximum(count, 1), 0.0)[:, None]
    mean, squares = [], []
    for old, square, value in zip(buffer.mean, buffer.squares, gradient, strict=True):
        middle = old + weight * (value - old)
        mean.append(middle)
        squares.append(square + jnp.where(taken[:, None], (value - old) * (value - middle), 0.0))
    length = jnp.sqrt(jnp.sum(gradient.phase**2, 1) + jnp.sum(gradient.mag**2, 1))
    return buffer._replace(
        mean=IndexGradient(*mean),
        squares=IndexGradient(*squares),
        count=count,
        samples=buffer.samples + 1,
        norm=_running_mean(buffer.norm, length, taken),
    )


def due(buffer: Buffer, options: Accumulation) -> Array:
    """Whether this many samples make an update."""
    return buffer.samples % options.steps == 0


def apply_accumulated(
    nodes: Indices, buffer: Buffer, rate: float, tables: Tables, options: Accumulation
) -> tuple[Indices, Buffer]:
    """Moves the nodes in the buffer, and empties it.

    An index moves by rate times gradient, not divided by the width of a bin, and is cut to a whole
    number modulo the bins: both phase and magnitude wrap.
    """
    used = (buffer.count > 0)[:, None]
    moved = Indices(*(
        jnp.where(used, _moved(index, rate * options.lr_scale * gradient, bins), index)
        for index, gradient, bins in zip(
            nodes, buffer.mean, (tables.phase_bins, tables.mag_bins), strict=True
        )
    ))
    halves = [jnp.mean(x, 1) / jnp.maximum(buffer.count - 1, 1) for x in buffer.squares]
    variance = _running_mean(buffer.variance, (halves[0] + halves[1]) / 2, buffer.count > 1)
    empty = init_buffer(*nodes.phase.shape)
    return moved, empty._replace(samples=buffer.samples, norm=buffer.norm, variance=variance)


def _moved(index: Int[Array, "n d"], step: Float[Array, "n d"], bins: int) -> Int[Array, "n d"]:
    return jnp.clip(jnp.mod(index - step, bins).astype(jnp.int32), 0, bins - 1)


def _running_mean(
    old: Float[Array, ""], values: Float[Array, " n"], taken: Bool[Array, " n"]
) -> Float[Array, ""]:
    """The exponential mean after the taken values, one after the other in the order of nodes."""
    after = jnp.sum(taken) - jnp.cumsum(taken)
    weight = jnp.where(taken, SMOOTHING * (1 - SMOOTHING) ** after, 0.0)
    return old * (1 - SMOOTHING) ** jnp.sum(taken) + jnp.sum(weight * values)
