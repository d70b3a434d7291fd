"""Losses that pull soft prompts towards embeddings of a model (spec/latentwire.md, section 6)."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgraph.latentwire.losses import mean_over
from jaxgraph.nn import across

TINY = 1e-8


def alignment_mse(
    prompt: Float[Array, "b n e"], target: Float[Array, "b n e"], mask: Bool[Array, "b n"]
) -> Float[Array, ""]:
    """Mean squared error over the shown vectors; 0 where there are none."""
    errors = jnp.where(mask[..., None], jnp.square(prompt - target), 0.0)
    total, shown = across.total((errors.sum(), mask.sum()))
    return total / (jnp.maximum(shown, 1) * prompt.shape[-1])


def cosine_distance(
    prompt: Float[Array, "*n e"], target: Float[Array, "*n e"]
) -> Float[Array, "*n"]:
    """1 - cosine of each pair."""
    sizes = (jnp.maximum(jnp.linalg.norm(x, axis=-1), TINY) for x in (prompt, target))
    first, second = sizes
    return 1 - jnp.sum(prompt * target, axis=-1) / (first * second)


def align(
    metric: str,
    prompt: Float[Array, "b n e"],
    target: Float[Array, "b n e"],
    mask: Bool[Array, "b n"],
) -> Float[Array, ""]:
    """Mean distance of the shown pairs: `cosine`, `mse`, or their sum as `both`."""
    found = jnp.zeros(())
    if metric in ("cosine", "both"):
        found += mean_over(cosine_distance(prompt, target), mask)
    if metric in ("mse", "both"):
        found += alignment_mse(prompt, target, mask)
    return found


def manifold(
    prompt: Float[Array, "b m e"],
    mean: Float[Array, " e"],
    deviation: Float[Array, " e"],
) -> Float[Array, ""]:
    """Squared distances of each coordinate's mean and deviation from those of the embeddings."""
    flat = prompt.reshape(-1, prompt.shape[-1])
    count = len(flat) * across.devices()
    centre = across.total(jnp.sum(flat, axis=0)) / count
    squares = across.total(jnp.sum(jnp.square(flat - centre[None]), axis=0))
    spread = jnp.sqrt(squares / (count - 1))
    return jnp.mean(jnp.square(centre - mean)) + jnp.mean(jnp.square(spread - deviation))
