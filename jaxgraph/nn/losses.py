"""Losses over a vocabulary, without ever holding all logits."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def cross_entropy(
    logits: Float[Array, "*n v"], targets: Int[Array, "*n"]
) -> Float[Array, "*n"]:
    """-log softmax(logits)[target] in nats, in float32."""
    logits = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
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
        hidden, targets, weights = part
        logits = jnp.einsum(
            "btd,dv->btv", hidden, kernel.astype(hidden.dtype), preferred_element_type=jnp.float32
        )
        return jnp.sum(weights * cross_entropy(logits + bias[None, None], targets))

    return jax.lax.map(chunk_loss, (cut(hidden), cut(targets), cut(weights))).sum()
