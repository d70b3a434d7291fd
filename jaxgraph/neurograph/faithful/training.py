"""One training sample: forward pass, loss, gradients, and the two passes of updates
(spec/neurograph.md, section 12)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.neurograph.faithful.cell import Indices
from jaxgraph.neurograph.faithful.gradients import (
    IndexGradient,
    index_gradient,
    output_gradient,
)
from jaxgraph.neurograph.faithful.readout import class_logits, cosines, cross_entropy
from jaxgraph.neurograph.faithful.updates import (
    Rates,
    Residuals,
    accumulated_updates,
    apply_updates,
    stateless_updates,
    steps_in_bins,
)
from jaxgraph.neurograph.tables import Tables


@dataclass(frozen=True)
class Objective:
    """How the loss is taken, and what becomes of gradients before they are steps."""

    temperature: float = 1.0
    smoothing: float = 0.0
    clip: float = 0.0
    """Largest norm of a node's gradient by signals; 0 leaves it be."""
    wrap_magnitude: bool = False
    """Whether magnitudes wrap around as phases do."""


class Answer(NamedTuple):
    """What the outputs say: logits ``[c]`` (0 without an active output), whether there is one, loss
    and whether it is right (both 0 without, as in the original)."""

    logits: Any
    answered: Any
    loss: Any
    right: Any


class OutputStep(NamedTuple):
    """Of the output nodes: gradient by their signals, by indices, and both updates."""

    upstream: Any
    gradient: IndexGradient
    first: Indices
    second: Indices


class Learned(NamedTuple):
    """Nodes and residuals after a sample."""

    nodes: Indices
    residuals: Residuals


def answer(
    objective: Objective,
    codes: Float[Array, "c d"],
    signals: Float[Array, "o d"],
    active: Bool[Array, " o"],
    label: Int[Array, ""],
) -> Answer:
    """Reads the output nodes, whose signals are compared with those of the class codes."""
    logits = class_logits(cosines(signals, codes), active.astype(jnp.float32))
    answered = jnp.any(active)
    loss = cross_entropy(logits, label, objective.temperature, objective.smoothing)
    right = jnp.argmax(logits) == label
    return Answer(logits, answered, jnp.where(answered, loss, 0.0), answered & right)


def learn_outputs(
    tables: Tables,
    objective: Objective,
    rates: Rates,
    codes: Float[Array, "c d"],
    learned: Learned,
    outputs: Int[np.ndarray, " o"],
    signals: Float[Array, "o d"],
    active: Bool[Array, " o"],
    *,
    twice: bool = True,
) -> tuple[Learned, OutputStep]:
    """Both passes of the original over the active outputs: gradients at the nodes' parameters, a
    stateless step, and with the same gradients a step with residuals, which `twice` leaves out."""
    upstream = clip_rows(output_gradient(signals, codes), objective.clip)
    here = Indices(*(x[outputs] for x in learned.nodes))
    old = Residuals(*(x[outputs] for x in learned.residuals))
    gradient = index_gradient(tables, *here, upstream)
    steps = steps_in_bins(gradient, tables, rates)
    steps = Residuals(*(jnp.where(active[:, None], x, 0.0) for x in steps))
    first = stateless_updates(steps)
    after = apply_updates(here, first, tables, objective.wrap_magnitude)
    second, left = Indices(*(jnp.zeros_like(x) for x in first)), old
    if twice:
        second, left = accumulated_updates(old, steps)
        # Without a new gradient the original does not look at a residual.
        second = Indices(*(jnp.where(active[:, None], x, 0) for x in second))
        kept = (jnp.where(active[:, None], x, y) for x, y in zip(left, old, strict=True))
        left = Residuals(*kept)
        after = apply_updates(after, second, tables, objective.wrap_magnitude)
    put = lambda whole, part: whole.at[outputs].set(part)  # noqa: E731
    return (
        Learned(
            Indices(*map(put, learned.nodes, after)), Residuals(*map(put, learned.residuals, left))
        ),
        OutputStep(upstream, gradient, first, second),
    )


def clip_rows(gradient: Float[Array, "n d"], largest: float) -> Float[Array, "n d"]:
    """Rows no longer than `largest`; 0 leaves them be."""
    if not largest:
        return gradient
    norm = jnp.sqrt(jnp.sum(jnp.square(gradient), 1, keepdims=True))
    return gradient * jnp.minimum(1.0, largest / jnp.maximum(norm, 1e-12))
