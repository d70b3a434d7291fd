"""The original's numbers about gradients and updates (spec/neurograph.md, section 15)."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

EXPLOSION, VANISHING = 10.0, 1e-6
UNIFORM_BELOW, SPARSE_ABOVE = 0.3, 1.0
EFFECTIVENESS_SCALE = 0.01
PATTERNS = ("empty", "vanishing", "exploding", "uniform", "sparse", "normal")


def effectiveness(
    gradient: Float[Array, "n d"], update: Int[Array, "n d"], rate: float
) -> Float[Array, " n"]:
    """Bins moved per norm of gradient: blind to direction (defect D23), 0 without gradient."""
    norm = jnp.sqrt(jnp.sum(gradient**2, -1)) * rate
    moved = jnp.sum(jnp.abs(update), -1)
    safe = jnp.where(norm <= 1e-8, 1.0, norm)
    return jnp.where(norm <= 1e-8, 0.0, moved / (safe / EFFECTIVENESS_SCALE))


def quantisation_loss(
    gradient: Float[Array, "n d"], update: Int[Array, "n d"], rate: float
) -> Float[Array, " n"]:
    """Mean squared difference of rate times gradient and the step in bins."""
    return jnp.mean(jnp.square(rate * gradient - update), -1)


def mean_change(
    before: Int[Array, "n d"], after: Int[Array, "n d"], bins: int
) -> Float[Array, " n"]:
    """Mean distance of indices in bins, the shorter way around."""
    apart = jnp.abs(after - before)
    return jnp.mean(jnp.minimum(apart, bins - apart), -1)


def descent_cosine(
    gradient: Float[Array, "n d"], moved: Int[Array, "n d"]
) -> Float[Array, ""]:
    """Cosine of minus the gradient and the step taken: 1 where steps go downhill, 0 without."""
    dot = -jnp.sum(gradient * moved)
    norms = jnp.sqrt(jnp.sum(gradient**2) * jnp.sum(jnp.square(moved.astype(jnp.float32))))
    return dot / jnp.maximum(norms, 1e-12)


def flow_pattern(norms: Float[Array, " n"]) -> Int[Array, ""]:
    """Which of `PATTERNS` the norms of gradients show."""
    if not norms.size:
        return jnp.int32(0)
    mean = jnp.mean(norms)
    variation = jnp.std(norms) / (mean + 1e-8)
    conditions = (
        mean < VANISHING, mean > EXPLOSION, variation < UNIFORM_BELOW, variation > SPARSE_ABOVE,
    )  # fmt: skip
    return jnp.select(conditions, [jnp.int32(i) for i in range(1, 5)], jnp.int32(5))
