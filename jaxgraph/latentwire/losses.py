"""Losses that are slices of one pass (spec/latentwire.md, section 6).

``logits[:, i]`` are those that predict answer token i: behind the soft prompt, the anchor and the
tokens before. `real` hides padding; a mean over nothing is 0, never NaN (D2).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.nn import across
from jaxgraph.nn.losses import cross_entropy

TEXT_CHUNK = 4
"""Rows over which the original averages the text loss before it averages the means."""
TINY = 1e-7
"""Least probability of what is left over: float32 knows no smaller share of 1."""


def mean_over(
    values: Float[Array, "*n"], real: Bool[Array, "*n"]
) -> Float[Array, ""]:
    """Mean of the real values of a batch."""
    value, count = across.total((jnp.sum(jnp.where(real, values, 0.0)), real.sum()))
    return value / jnp.maximum(count, 1)


def answer_loss(
    logits: Float[Array, "b t v"],
    answer: Int[Array, "b t"],
    real: Bool[Array, "b t"],
    alignment: str,
) -> Float[Array, ""]:
    """Cross-entropy per token: of each token, or as the original has it (D1), of the one behind."""
    return mean_over(*_compared(logits, answer, real, alignment))


def chunked_answer_loss(
    logits: Float[Array, "b t v"],
    answer: Int[Array, "b t"],
    real: Bool[Array, "b t"],
    alignment: str,
) -> Float[Array, ""]:
    """The same per `TEXT_CHUNK` rows, as the original does it: a mean of means, by their rows."""
    losses, counted = _compared(logits, answer, real, alignment)
    by_row = jnp.sum(jnp.where(counted, losses, 0.0), axis=1), counted.sum(1), real.any(1)
    # Chunks may lie across devices.
    chunks = (
        jnp.pad(x, (0, -len(x) % TEXT_CHUNK)).reshape(-1, TEXT_CHUNK).sum(1)
        for x in across.gather(by_row)
    )
    totals, tokens, rows = chunks
    return jnp.sum(rows * (totals / jnp.maximum(tokens, 1))) / jnp.maximum(rows.sum(), 1)


def _compared(logits, answer, real, alignment):
    """Losses and which of them count."""
    if alignment == "compat":
        logits, answer, real = logits[:, :-1], answer[:, 1:], real[:, 1:]
    return cross_entropy(logits, answer), real


def over_steps(
    values: Float[Array, "b t"], real: Bool[Array, "b t"], k: Float[Array, ""]
) -> Float[Array, ""]:
    """Mean over the first k steps of each step's mean over real rows; steps without any are left
    out."""
    sums, rows = across.total((jnp.sum(jnp.where(real, values, 0.0), axis=0), real.sum(0)))
    means = sums / jnp.maximum(rows, 1)
    counted = (jnp.arange(values.shape[1]) < k) & (rows > 0)
    return jnp.sum(jnp.where(counted, means, 0.0)) / jnp.maximum(counted.sum(), 1)


def divergence(
    student: Float[Array, "b t v"], teacher: Float[Array, "b t v"], temperature: float
) -> Float[Array, "b t"]:
    """τ² KL(teacher ‖ student) of the distributions at temperature τ; only the student learns."""
    theirs = jax.lax.stop_gradient(jax.nn.log_softmax(teacher / temperature))
    ours = jax.nn.log_softmax(student / temperature)
    return temperature**2 * jnp.sum(jnp.exp(theirs) * (theirs - ours), axis=-1)


def kept(
    teacher: Float[Array, "b t v"], count: int, temperature: float
) -> tuple[Int[Array, "b t k"], Float[Array, "b t k"]]:
    """The teacher's likeliest tokens and log p of each at temperature τ."""
    logs, ids = jax.lax.top_k(jax.nn.log_softmax(teacher / temperature), count)
    return ids, logs


def kept_divergence(
    student: Float[Array, "b t v"],
    ids: Int[Array, "b t k"],
    logs: Float[Array, "b t k"],
    temperature: float,
) -> Float[Array, "b t"]:
    """`divergence` where all tokens that were not kept are one outcome: never more than it, and
    equal to it if all were kept."""
    ours = jnp.take_along_axis(jax.nn.log_softmax(student / temperature), ids, axis=-1)
    rest, our_rest = (
        jnp.maximum(1 - jnp.sum(jnp.exp(each), axis=-1), TINY) for each in (logs, ours)
    )
    apart = jnp.sum(jnp.exp(logs) * (logs - ours), axis=-1)
    return temperature**2 * (apart + rest * (jnp.log(rest) - jnp.log(our_rest)))


def state_distance(
    student: Float[Array, "n b t e"], teacher: Float[Array, "n b t e"]
) -> Float[Array, "b t"]:
    """Mean square over coordinates of the difference, summed over n layers; only the student
    learns."""
    apart = student.astype(jnp.float32) - jax.lax.stop_gradient(teacher).astype(jnp.float32)
    return jnp.square(apart).mean(-1).sum(0)


def entropy(logits: Float[Array, "b v"]) -> Float[Array, " b"]:
    """Of the distributions, in nats."""
    logs = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(logs) * logs, axis=-1)
