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
    # Added, for XLA computes a sum in one pass with the softmax, but not a choice; the sum of this
    # and a score is this, exactly.
    hidden = jnp.where(mask[:, 0], 0.0, jnp.finfo(jnp.float32).min)
    return _attend(*across.alike((query * query.shape[-1] ** -0.5, key, value, hidden)))


@jax.custom_vjp
def _attend(query, key, value, hidden):
    """Of heads `[b, t, h, k]` and what is added to scores, `[b, 1, s]`."""

    def one(query, key, value):
        probs = _probs(query, key, hidden).astype(value.dtype)
        return [jnp.einsum("bts,bsk->btk", probs, value)]

    return _each_head(one, [query, key, value], [query])[0]


def _attend_and_keep(*args):
    out = _attend(*args)
    return out, (*args, out)


def _gradients(kept, slopes):
    """Of query, key and value: dS = P * (dP - sum(dO * O)) with dP = dO Vᵀ."""
    *heads, hidden, out = kept

    def one(query, key, value, out, slope):
        probs = _probs(query, key, hidden)
        to_probs = jnp.einsum("btk,bsk->bts", slope, value, preferred_element_type=jnp.float32)
        shift = jnp.sum(out.astype(jnp.float32) * slope, axis=-1, keepdims=True)
        to_scores = (probs * (to_probs - shift)).astype(query.dtype)
        to_query = jnp.einsum("bts,bsk->btk", to_scores, key)
        return to_query, _over_queries(query, to_scores), _over_queries(slope, probs)

    return *_each_head(one, [*heads, out, slopes], heads), None


_attend.defvjp(_attend_and_keep, _gradients)


def _each_head(work, inputs, like):
    """`work` of each head of the inputs, its results where their heads are.

    Heads are cut out and put back one by one: to move their axis to the front and back, as
    `lax.map` needs, copies everything twice.
    """

    def step(head, outs):
        results = work(*(jax.lax.dynamic_index_in_dim(x, head, 2, False) for x in inputs))
        return [
            jax.lax.dynamic_update_index_in_dim(out, result, head, 2)
            for out, result in zip(outs, results, strict=True)
        ]

    return jax.lax.fori_loop(0, inputs[0].shape[2], step, [jnp.zeros_like(x) for x in like])


def _probs(query, key, hidden):
    scores = jnp.einsum("btk,bsk->bts", query, key, preferred_element_type=jnp.float32)
    return jax.nn.softmax(scores + hidden, axis=-1)


def _over_queries(
    x: Float[Array, "b t k"], weights: Float[Array, "b t s"]
) -> Float[Array, "b s k"]:
    """weightsᵀ x, of which the small matrix is turned: XLA's product for CPUs takes four
    times as long where the large one is, and would choose that without the barriers."""
    turned = jax.lax.optimization_barrier(jnp.swapaxes(x, 1, 2))
    summed = jnp.einsum("bkt,bts->bks", turned, weights.astype(x.dtype))
    return jnp.swapaxes(jax.lax.optimization_barrier(summed), 1, 2)
