"""What a step does, as a function of its number (spec/latentwire.md, sections 6 and 7)."""

from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int

from jaxgraph.latentwire.config import Losses

RISE = 200
"""Steps over which the first token's weight rises."""
HELD = 0.4
"""Share of the run for which its peak is held."""


class Plan(struct.PyTreeNode):
    """Scalars of one step."""

    k: Any
    """K, the number of answer tokens that count most."""
    keep: Any
    """Share of shared slots that stay."""
    is_text: Any
    """1 in text steps, else 0."""
    latent_scale: Any
    """Factor of the losses through the soft prompt."""
    first_weight: Any
    """Weight of the first token's loss before it is scaled."""


def plan_of(losses: Losses, total_steps: int, step: Int[Array, ""]) -> Plan:
    """The plan of step `step` of `total_steps`."""
    c, count = losses.curriculum, step.astype(jnp.float32)
    done = jnp.clip(count / max(total_steps - 1, 1), 0, 1)
    inside = step < c.warmup
    is_text = (inside & (step % 2 == 0)).astype(jnp.float32)
    rising = 0.2 + 0.8 * count / max(c.warmup, 1)
    return Plan(
        k=jnp.maximum(jnp.round(c.first_steps + (c.last_steps - c.first_steps) * done), 1),
        keep=c.first_keep + (c.last_keep - c.first_keep) * done,
        is_text=is_text,
        latent_scale=jnp.where(is_text > 0, rising, 1.0),
        first_weight=first_weight(losses, total_steps, count),
    )


def first_weight(losses: Losses, total_steps: int, count: Any) -> Any:
    """Weight of the first token's loss at a step, before autoscaling."""
    base, kind = losses.first, losses.curriculum.first_token
    if kind == "constant":
        return jnp.full_like(count, base)
    if kind == "warmup":
        return base * jnp.minimum(1.0, count / RISE)
    peak, held = max(8.0, 2 * base), HELD * total_steps
    fallen = jnp.clip((count - held) / max(total_steps - held, 1.0), 0, 1)
    return base + (peak - base) * (1 + jnp.cos(jnp.pi * fallen)) / 2
