"""Attention in which several query heads share the keys and values of one head."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

CUDNN_DTYPES = (jnp.bfloat16, jnp.float16)


def attend(
    query: Float[Array, "b t h k"],
    key: Float[Array, "b s g k"],
    value: Float[Array, "b s g k"],
    mask: Bool[Array, "b 1 t s"],
) -> Float[Array, "b t h k"]:
    """softmax(q kᵀ / sqrt(k)) v over the keys that `mask` shows; softmax in float32.

    `h` is a multiple of `g`; query head i reads head i // (h / g). What a query gets that sees no
    key is finite and means nothing. On GPUs half precision goes through cuDNN's fused kernel.
    """
    if jax.default_backend() == "gpu" and cudnn_takes(query):
        return jax.nn.dot_product_attention(query, key, value, mask=mask, implementation="cudnn")
    return _grouped(query, key, value, mask)


def cudnn_takes(query: Float[Array, "b t h k"]) -> bool:
    """Whether cuDNN's kernel knows this dtype and width of heads."""
    width = query.shape[-1]
    return query.dtype in CUDNN_DTYPES and width % 8 == 0 and width <= 128


def attend_cached(
    query: Float[Array, "b 1 h k"],
    keys: Float[Array, "b g s k"],
    values: Float[Array, "b g s k"],
    mask: Bool[Array, "b s"],
) -> Float[Array, "b 1 h k"]:
    """The same for one query a row and a cache, whose heads stand before its slots: so both
    products read it as it lies (docs/optimizations.md)."""
    batch, _, heads, width = query.shape
    query = query.reshape(batch, keys.shape[1], -1, width)
    scores = jnp.einsum("bgrk,bgsk->bgrs", query, keys, preferred_element_type=jnp.float32)
    probs = _softmax(scores * width**-0.5, mask[:, None, None])
    out = jnp.einsum("bgrs,bgsk->bgrk", probs.astype(values.dtype), values)
    return out.reshape(batch, 1, heads, width)


def _grouped(query, key, value, mask):
    batch, length, heads, width = query.shape
    query = query.reshape(batch, length, key.shape[2], -1, width)
    scores = jnp.einsum("btgrk,bsgk->bgrts", query, key, preferred_element_type=jnp.float32)
    probs = _softmax(scores * width**-0.5, mask[:, :, None])
    out = jnp.einsum("bgrts,bsgk->btgrk", probs.astype(value.dtype), value)
    return out.reshape(batch, length, heads, width)


def _softmax(scores, mask):
    return jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(jnp.float32).min), axis=-1)
