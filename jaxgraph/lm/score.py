"""What a model finds a text's tokens worth, without ever holding all logits."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.lm.cache import KeyValues, positions_of
from jaxgraph.lm.llama import Llama
from jaxgraph.lm.reading import Reading, hooks_of
from jaxgraph.nn.losses import cross_entropy


def token_nll(
    model: Llama,
    params: Any,
    hidden: Float[Array, "b t d"],
    targets: Int[Array, "b t"],
    *,
    chunk: int = 256,
) -> Float[Array, "b t"]:
    """-log p(target) of each token in nats, from what the last norm gave.

    Holds the logits of about `chunk` tokens (at least one time step of the batch), in the backward
    pass too. Time is cut rather than the batch, so that a sharded batch stays where it is.
    """
    batch, length = targets.shape
    span = min(length, max(1, chunk // batch))
    rest = -length % span

    @partial(jax.checkpoint, prevent_cse=False)
    def part(cut):
        hidden, targets = cut
        return cross_entropy(model.apply({"params": params}, hidden, method="logits"), targets)

    def cut(x):
        x = jnp.pad(x, [(0, 0), (0, rest)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(batch, -1, span, *x.shape[2:]), 1, 0)

    nll = jax.lax.map(part, (cut(hidden), cut(targets)))
    return jnp.moveaxis(nll, 0, 1).reshape(batch, -1)[:, :length]


@partial(jax.jit, static_argnames=("model", "chunk"))
def text_nll(
    model: Llama,
    params: Any,
    ids: Int[Array, "b t"],
    mask: Bool[Array, "b t"],
    *,
    chunk: int = 256,
) -> Float[Array, "b t"]:
    """-log p of each token given those before it in its row, padded on either side; 0 on padding
    and on each row's first token, which nothing predicts. Their sum over the number of the others
    is the log of the perplexity."""
    hidden = model.apply({"params": params}, ids, mask, positions=positions_of(mask)).hidden
    nll = token_nll(model, params, hidden[:, :-1], ids[:, 1:], chunk=chunk)
    predicted = mask[:, 1:] & mask[:, :-1]
    return jnp.pad(jnp.where(predicted, nll, 0.0), [(0, 0), (1, 0)])


@partial(jax.jit, static_argnames=("model",))
def candidate_nll(
    model: Llama,
    params: Any,
    before: Float[Array, "b s d"],
    mask: Bool[Array, "b s"],
    candidates: Int[Array, "b c t"],
    real: Bool[Array, "b c t"],
    past: KeyValues | None = None,
    reading: Reading | None = None,
) -> Float[Array, "b c"]:
    """-log p of each of several endings of a prompt that is padded on the left, if at all.

    What stands before them is run once, whatever their number.

    Args:
      past: in front of the prompt.
      reading: at every token.
    """
    batch, count, length = candidates.shape
    apply = partial(model.apply, {"params": params})
    start = past.length if past is not None else 0
    begun = apply(
        before, mask, positions=start + positions_of(mask), past=past, keep_key_values=True,
        after=hooks_of(reading),
    )  # fmt: skip
    if reading is not None:
        reading = reading.replace(memory=jnp.repeat(reading.memory, count, axis=0))
    flat, shown = (x.reshape(batch * count, length) for x in (candidates, real))
    whole = jax.tree.map(
        lambda x, axis: jnp.repeat(x, count, axis), begun.key_values, KeyValues(1, 1, 0)
    )
    first = jnp.repeat(begun.hidden[:, -1:], count, axis=0)
    fed, seen = flat[:, :-1], shown[:, :-1]
    positions = whole.mask.sum(1, keepdims=True) + positions_of(seen)
    rest = apply(fed, seen, positions=positions, past=whole, after=hooks_of(reading)).hidden
    logits = apply(jnp.concatenate([first, rest], axis=1), method="logits")
    nll = jnp.where(shown, cross_entropy(logits, flat), 0.0)
    return nll.sum(1).reshape(batch, count)
