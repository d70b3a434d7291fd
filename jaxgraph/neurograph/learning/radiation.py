"""Radiation in the learning mode: a layer's nodes also send to those that fit them best.

As in the original (spec/neurograph.md, sections 6 and 8.3) a source scores every other node by the
signal that its message would have there, and sends to the best; ours sums what arrives.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def radiate(
    signals: Float[Array, "b h w d"], weights: Float[Array, "parts n c"], top_k: int
) -> tuple[Float[Array, "b h w d"], Float[Array, "b n n"]]:
    """Sums of radiated messages, in units of the products, and who sent to whom.

    Args:
      signals: real parts before imaginary parts.
      weights: phasor of each node's own dimensions.
      top_k: receivers of a source; ties go to the lower node.
    """
    flat = signals.reshape(len(signals), -1, signals.shape[-1])
    parts = jnp.stack(jnp.split(flat, len(weights), axis=-1))
    chosen = jax.lax.stop_gradient(choose(parts, weights, top_k)).astype(flat.dtype)
    exact = jax.lax.Precision.HIGHEST
    arriving = jnp.einsum("zbsc,bst->zbtc", parts, chosen, precision=exact)
    if len(weights) == 1:
        sums = arriving[0] * weights[0][None]
    else:
        (x, y), (u, v) = arriving, weights[:, None]
        sums = jnp.concatenate([x * u - y * v, x * v + y * u], axis=-1)
    return sums.reshape(signals.shape), chosen


def choose(
    parts: Float[Array, "parts b n c"], weights: Float[Array, "parts n c"], top_k: int
) -> Bool[Array, "b n n"]:
    """Whether source s sends to target t: t is among the `top_k` strongest, and its message would
    have a positive signal."""
    signs = jnp.array([1.0, -1.0])[: len(weights), None, None]
    scores = jnp.einsum(
        "zbsc,ztc->bst", parts, weights * signs, precision=jax.lax.Precision.HIGHEST
    )
    nodes = scores.shape[-1]
    scores = jnp.where(jnp.eye(nodes, dtype=bool)[None], -jnp.inf, scores)
    best, where = jax.lax.top_k(scores, min(top_k, nodes - 1))
    hits = jax.nn.one_hot(where, nodes) * (best > 0)[..., None]
    return hits.sum(-2) > 0
