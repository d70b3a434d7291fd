"""Numbers of a training step for the log (spec/neurograph.md, section 15)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgraph.neurograph.faithful import diagnostics
from jaxgraph.neurograph.faithful.cell import Indices
from jaxgraph.neurograph.faithful.propagation import Dynamics

STAGNATION = 1e-8
"""Mean bins moved by a parameter of the outputs, below which training stands still."""


def summarise(
    outcomes: Any, mask: Float[Array, " b"], classes: int
) -> dict[str, Array]:
    """Means over the real samples.

    A sample without an active output counts as wrong at the loss of even chances; the original
    enters 0 for it (defect D20).
    """
    rows = mask.sum()
    mean = lambda x: jnp.sum(mask * x) / jnp.maximum(rows, 1)  # noqa: E731
    said = outcomes.answer
    return {
        "loss": mean(jnp.where(said.answered, said.loss, math.log(classes))),
        "accuracy": mean(said.right),
        "activity/answered": mean(said.answered),
        "activity/timesteps": mean(outcomes.timesteps),
        "activity/nodes": mean(outcomes.mask.sum(1)),
        "activity/outputs": mean(outcomes.active.sum(1)),
        "items": rows,
        "skipped": jnp.zeros(()),
    }


def diagnose(
    outcomes: Any, before: Indices, after: Indices, dynamics: Dynamics
) -> dict[str, Array]:
    """Gradients and updates of the output nodes over a batch, and what was never active.

    `effectiveness` is the original's number, blind to direction; `descent` is the cosine of minus
    the gradient and the bins moved. Alerts are 0 or 1.
    """
    found, active = {}, outcomes.active
    count = jnp.maximum(active.sum(), 1)
    bins = Indices(dynamics.tables.phase_bins, dynamics.tables.mag_bins)
    for name in ("phase", "mag"):
        gradient = getattr(outcomes.step.gradient, name)
        moved = getattr(outcomes.step.first, name) + getattr(outcomes.step.second, name)
        gradient = jnp.where(active[..., None], gradient, 0.0)
        norm = jnp.sqrt(jnp.sum(gradient**2, -1))
        effect = diagnostics.effectiveness(
            gradient, moved, diagnostics.EFFECTIVENESS_SCALE
        )
        spread = jnp.sum(jnp.where(active, norm, 0.0)) / count
        change = diagnostics.mean_change(
            getattr(before, name), getattr(after, name), getattr(bins, name)
        )
        found |= {
            f"gradient/{name}_norm": spread,
            f"gradient/{name}_norm_max": jnp.max(norm),
            f"update/{name}_share": jnp.sum(moved != 0) / (count * moved.shape[-1]),
            f"update/{name}_effectiveness": jnp.sum(effect * active) / count,
            f"update/{name}_descent": diagnostics.descent_cosine(
                gradient.reshape(-1, gradient.shape[-1]), moved.reshape(-1, moved.shape[-1])
            ),
            f"update/{name}_bins": jnp.mean(change),
            f"alert/{name}_explosion": spread > diagnostics.EXPLOSION,
            f"alert/{name}_vanishing": spread < diagnostics.VANISHING,
            f"alert/{name}_stagnation": jnp.mean(change) < STAGNATION,
        }
    ever = jnp.any(outcomes.mask, 0)
    dead = {"activity/dead": jnp.sum(~ever), "activity/dead_outputs": jnp.sum(~jnp.any(active, 0))}
    return jax.tree.map(lambda x: x.astype(jnp.float32), found | dead)
