"""Drawing tokens from logits (spec/latentwire.md, section 5.3)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

BANNED = -1e9
"""Logit of what must not be drawn: finite, so that a row with nothing else still draws."""


def sample(
    logits: Float[Array, "b v"], keys: Key[Array, " b"], temperature: float, top_p: float
) -> Int[Array, " b"]:
    """A token for each row; temperature 0 takes the likeliest and ignores the rest."""
    if temperature == 0:
        return jnp.argmax(logits, -1)
    logits = logits / temperature
    if top_p < 1:
        logits = nucleus(logits, top_p)
    return jax.vmap(jax.random.categorical)(keys, logits)


def nucleus(logits: Float[Array, "b v"], top_p: float) -> Float[Array, "b v"]:
    """Bans all but the likeliest tokens whose probabilities sum up to at most `top_p`; the first
    always stays."""
    order = jnp.argsort(logits, axis=-1, descending=True)
    total = jnp.cumsum(jax.nn.softmax(jnp.take_along_axis(logits, order, -1), axis=-1), axis=-1)
    kept = (total <= top_p).at[:, 0].set(True)
    rows = jnp.arange(len(logits))[:, None]
    kept = jnp.zeros_like(kept).at[rows, order].set(kept)
    return jnp.where(kept, logits, -jnp.inf)
