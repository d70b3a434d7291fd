"""Observations from packed bits, on the device: 32 bytes travel instead of 1,024."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from jaxgraph.nn import across
from jaxgraph.vae.config import Likelihood


def unpack_bits(packed: UInt8[Array, "b n"]) -> Float[Array, "b d"]:
    """Zeros and ones, least significant bit of the first byte first."""
    places = jnp.arange(8, dtype=jnp.uint8)[None, None]
    bits = (packed[..., None] >> places) & jnp.uint8(1)
    return bits.reshape(len(packed), 8 * packed.shape[1]).astype(jnp.float32)


def observe(
    packed: UInt8[Array, "b n"], key: Any, likelihood: Likelihood
) -> Float[Array, "b d"]:
    """The bits, with fresh noise where the likelihood has any (spec/vae.md, 16.2)."""
    bits = unpack_bits(packed)
    if likelihood.kind == "bernoulli":
        return bits
    return bits + likelihood.sigma * across.draw(jax.random.normal, key, bits.shape)
