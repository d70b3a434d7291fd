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


@dataclass(frozen=True, eq=False)
class Objective:
    """What outputs are compared with."""

    codes: Float[np.ndarray, "c d"]
    """Signals of the class codes."""
    temperature: float = 1.0
    smoothing: float = 0.0


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
    signals: Float[Array, "o d"],
    active: Bool[Array, " o"],
    label: Int[Array, ""],
) -> Answer:
    """Reads the output nodes."""
    codes = jnp.asarray(objective.codes)
    logits = class_logits(cosines(signals, codes), active.astype(jnp.float32))
    answered = jnp.any(active)
    loss = cross_entropy(logits, label, objective.temperature, objective.smoothing)
    right = jnp.argmax(logits) == label
    return Answer(logits, answered, jnp.where(answered, loss, 0.0), answered & right)


def learn_outputs(
    tables: Tables,
    objective: Objective,
    rates: Rates,
    learned: Learned,
    outputs: Int[np.ndarray, " o"],
    signals: Float[Array, "o d"],
    active: Bool[Array, " o"],
) -> tuple[Learned, OutputStep]:
    """Both passes of the original over the active outputs: gradients at the nodes' parameters, a
    stateless step, and with the same gradients a step with residuals."""
    upstream = output_gradient(signals, jnp.asarray(objective.codes))
    here = Indices(*(x[outputs] for x in learned.nodes))
    gradient = index_gradient(tables, *here, upstream)
    steps = steps_in_bins(gradient, tables, rates)
    steps = Residuals(*(jnp.where(active[:, None], x, 0.0) for x in steps))
    first = stateless_updates(steps)
    residuals = Residuals(*(x[outputs] for x in learned.residuals))
    second, left = accumulated_updates(residuals, steps)
    # Without a new gradient the original does not look at a residual.
    second = Indices(*(jnp.where(active[:, None], x, 0) for x in second))
    after = apply_updates(apply_updates(here, first, tables), second, tables)
    return (
        Learned(
            Indices(*(a.at[outputs].set(b) for a, b in zip(learned.nodes, after, strict=True))),
            Residuals(*(
                a.at[outputs].set(jnp.where(active[:, None], b, a[outputs]))
                for a, b in zip(learned.residuals, left, strict=True)
            )),
        ),
        OutputStep(upstream, gradient, first, second),
    )
