"""Losses over a vocabulary, without ever holding all logits."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgraph.nn import across


def cross_entropy(
    logits: Float[Array, "*n v"], targets: Int[Array, "*n"]
) -> Float[Array, "*n"]:
    """-log softmax(logits)[target] in nats, in float32."""
    logits = logits.astype(jnp.float32)
    chosen = jnp.sum(jnp.where(_is_target(logits, targets), logits, 0.0), axis=-1)
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
    of about `chunk` tokens a device only (at least one time step of the batch). Where gradients are
    wanted they are taken together with the loss, chunk by chunk, so that no logits are computed
    twice; no gradient reaches `weights`. Time is cut rather than the batch, so that a batch sharded
    over devices stays where it is.
    """
    batch, length, _ = hidden.shape
    span = min(length, max(1, chunk * across.sharing() // batch))
    padding = -length % span

    def cut(x):
        x = jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2))
        x = jnp.moveaxis(x.reshape(batch, -1, span, *x.shape[2:]), 1, 0)
        return x.reshape(x.shape[0], batch * span, *x.shape[3:])

    _, kernel, bias = across.alike((hidden, kernel, bias))
    return _total(cut(hidden), kernel, bias, cut(targets), cut(weights))


@jax.custom_vjp
def _total(hidden, kernel, bias, targets, weights):
    """Over chunks `[c, n, ...]`."""

    kernel = kernel.astype(hidden.dtype)

    def chunk_loss(part):
        hidden, targets, weights = part
        scores = _score(hidden, kernel, bias, targets)
        return jnp.sum(weights * scores.losses)

    return jax.lax.map(chunk_loss, (hidden, targets, weights)).sum()


def _total_and_gradients(hidden, kernel, bias, targets, weights):
    kernel_cast = kernel.astype(hidden.dtype)

    def gradients(part):
        hidden, targets, weights = part
        scores = _score(hidden, kernel_cast, bias, targets)
        loss = jnp.sum(weights * scores.losses)
        hit = jnp.where(_is_target(scores.exp, targets), weights[:, None], 0.0)
        slope = scores.exp * (weights / scores.norm)[:, None] - hit
        slope_cast = slope.astype(hidden.dtype)
        dot = partial(jax.lax.dot_general, preferred_element_type=jnp.float32)
        to_hidden = dot(slope_cast, kernel_cast, (((1,), (1,)), ((), ())))
        # [v, d]: the long axis first, which several CPU threads can share.
        to_kernel = dot(slope_cast, hidden, (((0,), (0,)), ((), ())))
        return (loss, to_kernel, _sum(slope.T)), to_hidden.astype(hidden.dtype)

    def add(total, part):
        new, to_hidden = gradients(part)
        return jax.tree.map(jnp.add, total, new), to_hidden

    # The first chunk starts the sums: zeros would not vary over devices as they do (`shard_map`).
    parts = hidden, targets, weights
    total, first = gradients(jax.tree.map(lambda x: x[0], parts))
    (loss, to_kernel, to_bias), rest = jax.lax.scan(
        add, total, jax.tree.map(lambda x: x[1:], parts)
    )
    to_hidden = jnp.concatenate([first[None], rest])
    return loss, (to_hidden, to_kernel.T.astype(kernel.dtype), to_bias.astype(bias.dtype))


def _scaled_gradients(gradients, cotangent):
    scaled = jax.tree.map(lambda g: (g * cotangent).astype(g.dtype), gradients)
    return *scaled, None, None


_total.defvjp(_total_and_gradients, _scaled_gradients)


class _Scores(NamedTuple):
    exp: Float[Array, "n v"]
    """exp(logits - their maximum)."""
    norm: Float[Array, " n"]
    """Sums of `exp`."""
    losses: Float[Array, " n"]


def _score(hidden, kernel, bias, targets) -> _Scores:
    """Of a kernel that has the type of `hidden`."""
    logits = jnp.dot(hidden, kernel, preferred_element_type=jnp.float32) + bias[None]
    top = logits.max(-1, keepdims=True)
    exp = jnp.exp(logits - top)
    norm = _sum(exp)
    # Not picked out of the logits, which would be another pass over all of them.
    chosen = jnp.einsum(
        "nd,dn->n", hidden, kernel[:, targets], preferred_element_type=jnp.float32
    ) + bias[targets]
    return _Scores(exp, norm, jnp.log(norm) + top[:, 0] - chosen)


def _is_target(logits, targets) -> Any:
    # A comparison instead of a gather: the gradient of a gather is a scatter, slow on CPUs.
    words = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1)
    return words == targets[..., None]


def _sum(x: Float[Array, "n v"]) -> Float[Array, " n"]:
    """Sums of rows by a matrix product: XLA's own sums over a long axis take one CPU thread, and
    compute again, element by element, whatever they add."""
    ones = jnp.ones((x.shape[1],), x.dtype)
    return jnp.dot(x, ones, precision=jax.lax.Precision.HIGHEST)
