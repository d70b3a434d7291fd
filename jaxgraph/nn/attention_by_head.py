"""Softmax attention that holds the scores of one head only."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgraph.nn import across


def attend_by_head(
    query: Float[Array, "b t h k"],
    key: Float[Array, "b s h k"],
    value: Float[Array, "b s h k"],
    mask: Bool[Array, "b 1 1 s"] | None = None,
) -> Float[Array, "b t h k"]:
    """softmax(q kᵀ / sqrt(k)) v, one head after the other; softmax in float32.

    Scores are computed once more for the gradient, not kept: faster on CPUs, whose caches do not
    hold those of all heads (docs/optimizations.md). The loop runs over heads, not rows, since rows
    may lie on many devices. A query that sees no key gets the mean of all values.
    """
    if mask is None:
        mask = jnp.ones((len(key), 1, 1, key.shape[1]), bool)
    query = query * query.shape[-1] ** -0.5
    heads = [jnp.moveaxis(x, 2, 0) for x in (query, key, value)]
    return jnp.moveaxis(_attend(*across.alike((*heads, mask[:, 0]))), 0, 2)


@jax.custom_vjp
def _attend(query, key, value, mask):
    """Of heads `[h, b, t, k]` and a mask `[b, 1, s]`."""

    def one(head):
        query, key, value = head
        probs = _probs(query, key, mask).astype(value.dtype)
        return jnp.einsum("bts,bsk->btk", probs, value)

    return jax.lax.map(one, (query, key, value))


def _attend_and_keep(*args):
    out = _attend(*args)
    return out, (*args, out)


def _gradients(kept, slopes):
    """Of query, key and value: dS = P * (dP - sum(dO * O)) with dP = dO Vᵀ."""
    *heads, mask, out = kept

    def one(head):
        query, key, value, out, slope = head
        probs = _probs(query, key, mask)
        to_probs = jnp.einsum(
            "btk,bsk->bts", slope, value, preferred_element_type=jnp.float32
        )
        shift = jnp.sum(out.astype(jnp.float32) * slope, axis=-1, keepdims=True)
        to_scores = (probs * (to_probs - shift)).astype(query.dtype)
        to_query = jnp.einsum("bts,bsk->btk", to_scores, key)
        return to_query, _over_queries(query, to_scores), _over_queries(slope, probs)

    return *jax.lax.map(one, (*heads, out, slopes)), None


_attend.defvjp(_attend_and_keep, _gradients)


def _probs(query, key, mask):
    scores = jnp.einsum("btk,bsk->bts", query, key, preferred_element_type=jnp.float32)
    return jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(jnp.float32).min), axis=-1)


def _over_queries(
    x: Float[Array, "b t k"], weights: Float[Array, "b t s"]
) -> Float[Array, "b s k"]:
    """weightsᵀ x, of which the small matrix is turned: XLA's product for CPUs takes four
    times as long where the large one is, and would choose that without the barriers."""
    turned = jax.lax.optimization_barrier(jnp.swapaxes(x, 1, 2))
    summed = jnp.einsum("bkt,bts->bks", turned, weights.astype(x.dtype))
    return jnp.swapaxes(jax.lax.optimization_barrier(summed), 1, 2)
