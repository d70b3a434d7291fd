"""Softmax attention with explicit masks: with dropout on the probabilities, or head by head."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from jaxgraph.nn.dropout import dropout


def causal_mask(length: int) -> Bool[Array, "1 1 t t"]:
    """True where a query (row) may see a key (column): itself and everything before it."""
    return jnp.tril(jnp.ones((1, 1, length, length), bool))


def attend(
    query: Float[Array, "b t h k"],
    key: Float[Array, "b s h k"],
    value: Float[Array, "b s h k"],
    mask: Bool[Array, "#b 1 #t s"],
    *,
    rate: float = 0.0,
    dropout_key: Key[Array, ""] | None = None,
) -> Float[Array, "b t h k"]:
    """softmax(q kᵀ / sqrt(k)) v over the keys that `mask` shows; softmax in float32.

    A query that sees no key gets zeros, as PyTorch's attention gives in training, where a plain
    softmax would give the mean of all values. A share `rate` of the
    probabilities is dropped where there is a `dropout_key`.
    """
    scores = jnp.einsum("bthk,bshk->bhts", query, key, preferred_element_type=jnp.float32)
    scores = scores * query.shape[-1] ** -0.5
    probs = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(jnp.float32).min), axis=-1)
    probs = jnp.where(mask.any(-1, keepdims=True), probs, 0.0)
    probs = dropout(probs, rate, dropout_key)
    return jnp.einsum("bhts,bshk->bthk", probs.astype(value.dtype), value)


def attend_by_head(
    query: Float[Array, "b t h k"],
    key: Float[Array, "b s h k"],
    value: Float[Array, "b s h k"],
    mask: Bool[Array, "b 1 1 s"] | None = None,
) -> Float[Array, "b t h k"]:
    """softmax(q kᵀ / sqrt(k)) v, one head after the other; softmax in float32.

    The scores of one head are all that is ever held, and they are computed once more for the
    gradient: faster on CPUs, whose caches do not hold the scores of all (docs/optimizations.md).
    The loop runs over heads, not rows, since rows may lie on many devices.
    A query that sees no key gets the mean of all values.
    """

    @jax.checkpoint
    def one(head):
        query, key, value = head
        scores = jnp.einsum("btk,bsk->bts", query, key, preferred_element_type=jnp.float32)
        if mask is not None:
            scores = jnp.where(mask[:, 0], scores, jnp.finfo(jnp.float32).min)
        probs = jax.nn.softmax(scores, axis=-1)
        return jnp.einsum("bts,bsk->btk", probs.astype(value.dtype), value)

    scaled = query * query.shape[-1] ** -0.5
    heads = jax.lax.map(one, tuple(jnp.moveaxis(x, 2, 0) for x in (scaled, key, value)))
    return jnp.moveaxis(heads, 0, 2)
