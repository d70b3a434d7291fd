"""Softmax attention with explicit masks and dropout on the probabilities."""

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

