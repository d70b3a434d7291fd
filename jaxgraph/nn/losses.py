"""Losses over a vocabulary, without ever holding all logits."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def cross_entropy(
    logits: Float[Array, "*n v"], targets: Int[Array, "*n"]
) -> Float[Array, "*n"]:
    """-log softmax(logits)[target] in nats, in float32."""
    logits = logits.astype(jnp.float32)
    words = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1)
    # A comparison instead of a gather: the gradient of a gather is a scatter, slow on CPUs.
    chosen = jnp.sum(jnp.where(words == targets[..., None], logits, 0.0), axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def chunked_cross_entropy(
    hidden: Float[Array, "b t d"],
    kernel: Float[Array, "d v"],
    bias: Float[Array, " v"],
    targets: Int[Array, "b t"],
    weights: Float[Array, "b t"],
    *,
    chunk: int,
) -> Float[Array, ""]:
    """Weighted sum of the cross-entropies of a linear vocabulary head.

    Equal to ``sum(weights * cross_entropy(hidden @ kernel + bias, targets))``, but holds the logits
    of about `chunk` tokens only (at least one time step of the batch), in the backward pass too:
    each chunk is computed again there. Time is cut rather than the batch, so that a batch sharded
    over devices stays where it is.
    """
    batch, length, _ = hidden.shape
    span = min(length, max(1, chunk // batch))
    padding = -length % span

    def cut(x):
        x = jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(batch, -1, span, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def chunk_loss(part):
        hidden, targets, weights = (x.reshape(-1, *x.shape[2:]) for x in part)
        logits = jnp.dot(
            hidden, kernel.astype(hidden.dtype), preferred_element_type=jnp.float32
        )
        return jnp.sum(weights * cross_entropy(logits + bias[None], targets))

    return jax.lax.map(chunk_loss, (cut(hidden), cut(targets), cut(weights))).sum()
