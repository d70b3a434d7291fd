"""Losses that pull soft prompts towards embeddings of a model (spec/latentwire.md, section 6)."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

TINY = 1e-8


def alignment_mse(
    prompt: Float[Array, "b n e"], target: Float[Array, "b n e"], mask: Bool[Array, "b n"]
) -> Float[Array, ""]:
    """Mean squared error over the shown vectors; 0 where there are none."""
    errors = jnp.where(mask[..., None], jnp.square(prompt - target), 0.0)
    return errors.sum() / (jnp.maximum(mask.sum(), 1) * prompt.shape[-1])


def cosine_distance(
    prompt: Float[Array, "*n e"], target: Float[Array, "*n e"]
) -> Float[Array, "*n"]:
    """1 - cosine of each pair."""
    sizes = (jnp.maximum(jnp.linalg.norm(x, axis=-1), TINY) for x in (prompt, target))
    first, second = sizes
    return 1 - jnp.sum(prompt * target, axis=-1) / (first * second)


def manifold(
    prompt: Float[Array, "b m e"],
    mean: Float[Array, " e"],
    deviation: Float[Array, " e"],
) -> Float[Array, ""]:
    """Squared distances of each coordinate's mean and deviation from those of the embeddings."""
    flat = prompt.reshape(-1, prompt.shape[-1])
    centre = jnp.mean(flat, axis=0)
    spread = jnp.std(flat, axis=0, ddof=1)
    return jnp.mean(jnp.square(centre - mean)) + jnp.mean(jnp.square(spread - deviation))
