"""Text from the language model: one prefill, then one token at a time from a fixed-size cache."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxgraph.moe.ghosts import GhostState
from jaxgraph.moe.model import LanguageModel


def sample(
    logits: Float[Array, "b v"], key: Key[Array, ""], temperature: float, top_k: int
) -> Int[Array, " b"]:
    """Draws from the `top_k` likeliest tokens (0: all); temperature 0 takes the likeliest."""
    if temperature == 0:
        return jnp.argmax(logits, -1)
    logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        kth = jax.lax.top_k(logits, top_k)[0][:, -1:]
        logits = jnp.where(logits < kth, -jnp.inf, logits)
    return jax.random.categorical(key, logits)


@partial(jax.jit, static_argnames=("model", "new_tokens", "temperature", "top_k"))
def generate(
    model: LanguageModel,
    params: Any,
    ghosts: GhostState | None,
    prompt: Int[Array, "b s"],
    length: Int[Array, ""],
    key: Key[Array, ""],
    *,
    new_tokens: int,
    temperature: float,
    top_k: int,
) -> Int[Array, "b new"]:
    """Continues prompts of equal length.

    Args:
      prompt: ids, padded to any width `s` up to `max_seq_len`, so that prompts of different lengths
        share one compiled program; `length + new_tokens` must not exceed `max_seq_len`.
      length: ids of the prompt that count, at least 1.
    """
    slots = model.config.max_seq_len
    prompt = jnp.pad(prompt, ((0, 0), (0, slots - prompt.shape[1])))
    apply = partial(model.apply, {"params": params}, keep_cache=True)
    filled = apply(prompt, ghosts)
    # Slots behind the prompt hold rubbish until decoding overwrites them; no mask shows them till
    # then.
    last = jax.lax.dynamic_slice_in_dim(filled.hidden, length - 1, 1, axis=1)
    caches = tuple(layer.cache for layer in filled.layers)

    def draw(hidden, key):
        logits = model.apply({"params": params}, hidden, method="logits")
        return sample(logits[:, 0], key, temperature, top_k)

    def advance(carry, key):
        token, caches, position = carry
        out = apply(token[:, None], ghosts, cache=caches, position=position)
        token = draw(out.hidden, key)
        return (token, tuple(layer.cache for layer in out.layers), position + 1), token

    first = draw(last, jax.random.fold_in(key, 0))
    advance_by = lambda carry, i: advance(carry, jax.random.fold_in(key, i))  # noqa: E731
    _, rest = jax.lax.scan(advance_by, (first, caches, length), jnp.arange(1, new_tokens))
    return jnp.concatenate([first[:, None], rest.T], axis=1)
