"""Dropout at half the random numbers."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from jaxgraph.nn import across


def keep_mask(key: Key[Array, ""], rate: float, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    """True with probability 1 - rate, to the next 2⁻¹⁶, independently in each place.

    Two places share the bits of one 32-bit draw: making random numbers is most of dropout's cost on
    CPUs (docs/optimizations.md). The leading axis must run over rows of the batch.
    """
    pairs = (*shape[:-1], math.ceil(shape[-1] / 2))
    words = across.draw(lambda key, shape: jax.random.bits(key, shape, jnp.uint32), key, pairs)
    halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(*shape[:-1], -1)
    return halves[..., : shape[-1]] >= jnp.uint16(round(rate * 2**16))


def dropout(
    x: Float[Array, "..."], rate: float, key: Key[Array, ""] | None
) -> Float[Array, "..."]:
    """Zeroes a share `rate` of the places and scales the others up; without a key, nothing."""
    if not rate or key is None:
        return x
    if rate == 1:  # 16 bits do not hold 2¹⁶
        return jnp.zeros_like(x)
    return jnp.where(keep_mask(key, rate, x.shape), x / (1 - rate), 0)
