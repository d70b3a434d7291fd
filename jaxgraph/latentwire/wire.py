"""What a wire costs: few bits a number, and their bytes (spec/latentwire.md, 4 and 7.2)."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

SCALE_BITS = 16


def quantise(
    z: Float[Array, "b m d"], bits: int, group: int = 32
) -> Float[Array, "b m d"]:
    """Rounds each example's numbers to multiples of their group's largest over 2^(bits-1) - 1.

    Groups are consecutive numbers of the flat wire; the last may be smaller. 16 bits or more leave
    it alone.
    """
    if bits >= 16:
        return z
    top = 2 ** (bits - 1)
    flat = z.reshape(len(z), -1)
    groups = jnp.pad(flat, [(0, 0), (0, -flat.shape[1] % group)]).reshape(len(z), -1, group)
    scale = jnp.abs(groups).max(-1, keepdims=True) / (top - 1)
    scale = jnp.where(scale == 0, 1.0, scale)
    steps = jnp.clip(jnp.round(groups / scale), -top, top - 1)
    return (steps * scale).reshape(len(z), -1)[:, : flat.shape[1]].reshape(z.shape)


def wire_bytes(numbers: int, bits: int, group: int = 32, *, examples: int = 1) -> int:
    """Bytes of so many numbers an example; below 16 bits with a 16-bit scale for each group."""
    scales = math.ceil(numbers / group) * SCALE_BITS if bits < 16 else 0
    return math.ceil(examples * (numbers * bits + scales) / 8)
