"""From the signals of active outputs to logits, loss and prediction
(spec/neurograph.md, sections 11 and 14)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

EPS = 1e-8


def cosines(
    signals: Float[Array, "o d"], codes: Float[Array, "c d"]
) -> Float[Array, "o c"]:
    """Cosine of each signal with each class code's signal."""
    return jnp.einsum("od,cd->oc", _unit(signals), _unit(codes), precision="highest")


def class_logits(
    cosine: Float[Array, "o c"], weight: Float[Array, " o"]
) -> Float[Array, " c"]:
    """Weighted mean over outputs; 0 where all weights are 0.

    A weight is 1 of an active output and 0 of another; the original's multi-output loss takes any.
    """
    total = jnp.sum(weight)
    return weight @ cosine / jnp.where(total == 0, 1.0, total)


def cross_entropy(
    logits: Float[Array, "*b c"],
    label: Int[Array, "*b"],
    temperature: Float[Array, ""] | float,
    smoothing: float,
) -> Float[Array, "*b"]:
    """Cross entropy with targets 1 - s for the label and s / (C - 1) for each other class, which
    differs from the usual smoothing, s / C for all."""
    classes = logits.shape[-1]
    log_p = jax.nn.log_softmax(logits / temperature, -1)
    right = jax.nn.one_hot(label, classes)
    target = right * (1 - smoothing) + (1 - right) * (smoothing / (classes - 1))
    return -jnp.sum(target * log_p, -1)


def predict(cosine: Float[Array, "o c"], active: Bool[Array, " o"]) -> Int[Array, ""]:
    """The class of the largest logit, the first of several; -1 without an active output."""
    logits = class_logits(cosine, active.astype(jnp.float32))
    return jnp.where(jnp.any(active), jnp.argmax(logits), -1)


def top_k_right(
    logits: Float[Array, "b c"], label: Int[Array, " b"], k: int
) -> Bool[Array, " b"]:
    """Whether the label is among the k largest logits."""
    return jnp.any(jax.lax.top_k(logits, k)[1] == label[:, None], 1)


def _unit(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    norm = jnp.sqrt(jnp.sum(jnp.square(x), -1, keepdims=True))
    return x / jnp.maximum(norm, EPS)
