"""Text from a decoder: one prefill, then one compiled loop that fills a cache of fixed size."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key

from jaxgraph.lm.cache import KeyValues, positions_of
from jaxgraph.lm.config import Sampling
from jaxgraph.lm.llama import Llama
from jaxgraph.lm.reading import Reading, hooks_of
from jaxgraph.lm.sampling import BANNED, sample


class Generated(struct.PyTreeNode):
    """What `generate` gives."""

    tokens: Any
    """Int [b n]: new tokens without the stop id, then `pad_id`."""
    lengths: Any
    """Int [b]: how many of them count."""


class Loop(struct.PyTreeNode):
    """State of the decoding loop."""

    t: Any
    token: Any
    done: Any
    tokens: Any
    lengths: Any
    cache: KeyValues


@partial(jax.jit, static_argnames=("model", "sampling", "stop_ids", "pad_id"))
def generate(
    model: Llama,
    params: Any,
    inputs: Int[Array, "b t"] | Float[Array, "b t d"],
    mask: Bool[Array, "b t"] | None = None,
    *,
    sampling: Sampling,
    stop_ids: tuple[int, ...] = (),
    pad_id: int = 0,
    key: Key[Array, ""] | None = None,
    past: KeyValues | None = None,
    reading: Reading | None = None,
) -> Generated:
    """Continues prompts of ids or vectors, padded on either side; a row does not notice the others.

    Ends when every row has met a stop id, or at `sampling.max_new_tokens`. Nothing travels to the
    host in between.

    Args:
      mask: False on padding; each row needs a real token.
      key: draws of row i follow from `fold_in(key, i)`; only needed at a temperature above 0.
      past: in front of the prompts, whose positions begin behind it.
      reading: at every token, not in the prefill alone.
    """
    batch, length = inputs.shape[:2]
    if mask is None:
        mask = jnp.ones((batch, length), bool)
    before = past.length if past is not None else 0
    apply = partial(model.apply, {"params": params})
    hooks = hooks_of(reading)
    prefilled = apply(
        inputs, mask, positions=before + positions_of(mask), past=past, keep_key_values=True,
        after=hooks,
    )  # fmt: skip
    last = length - 1 - jnp.argmax(mask[:, ::-1], axis=1)
    next_position = before + mask.sum(1)
    keys = _row_keys(key, batch)

    def draw(hidden, t, first):
        logits = apply(hidden, method="logits")
        if stop_ids:
            early = t < max(sampling.min_new_tokens, sampling.ban_stop_steps)
            banned = np.zeros(logits.shape[-1], bool)
            banned[list(stop_ids)] = True
            logits = jnp.where(banned[None] & early, BANNED, logits)
        temperature, top_p = sampling.temperature, sampling.top_p
        if first and sampling.first_temperature is not None:
            temperature = sampling.first_temperature
        if first and sampling.first_top_p is not None:
            top_p = sampling.first_top_p
        at = jax.vmap(jax.random.fold_in, (0, None))(keys, t)
        return sample(logits, at, temperature, top_p)

    def accept(loop, token):
        """Writes a drawn token, unless its row is done or it is a stop id."""
        stop = jnp.isin(token, np.asarray(stop_ids, np.int32)) & (loop.t >= sampling.min_new_tokens)
        done = loop.done | stop
        token = jnp.where(done, pad_id, token)
        tokens = loop.tokens.at[:, loop.t].set(token)
        return loop.replace(
            t=loop.t + 1, token=token, done=done, tokens=tokens, lengths=loop.lengths + ~done
        )

    def advance(loop):
        hidden, cache = apply(
            loop.token,
            loop.cache,
            before + length + loop.t - 1,
            next_position + loop.t - 1,
            hooks,
            method="step",
        )
        return accept(loop.replace(cache=cache), draw(hidden, loop.t, False))

    # The last token is never fed.
    cache = prefilled.key_values.extended(sampling.max_new_tokens - 1)
    tokens = jnp.full((batch, sampling.max_new_tokens), pad_id, jnp.int32)
    none = jnp.zeros(batch, jnp.int32)
    loop = Loop(jnp.int32(0), none, jnp.zeros(batch, bool), tokens, none, cache)
    hidden = jnp.take_along_axis(prefilled.hidden, last[:, None, None], axis=1)[:, 0]
    loop = accept(loop, draw(hidden, loop.t, True))
    open_ = lambda loop: (loop.t < sampling.max_new_tokens) & ~loop.done.all()  # noqa: E731
    loop = jax.lax.while_loop(open_, advance, loop)
    return Generated(loop.tokens, loop.lengths)


def _row_keys(key: Key[Array, ""] | None, batch: int) -> Key[Array, " b"]:
    key = jax.random.key(0) if key is None else key
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch))
