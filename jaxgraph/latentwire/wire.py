"""What a wire costs: few bits a number, and their bytes (spec/latentwire.md, 4 and 7.2); and
whether it still tells texts apart."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

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


def diversity(z: Float[Array, "b m d"], rows: Bool[Array, " b"]) -> Float[Array, ""]:
    """Mean distance of neighbouring rows' wires over the root of the mean square length: √2 for
    unrelated ones of mean 0, 0 where every text gets the same."""
    flat = z.reshape(len(z), -1)
    pairs = (rows & jnp.roll(rows, 1)).astype(flat.dtype)
    apart = jnp.linalg.norm(flat - jnp.roll(flat, 1, axis=0), axis=1)
    length = jnp.sum(jnp.square(flat), axis=1)
    mean = lambda x, w: jnp.sum(x * w) / jnp.maximum(w.sum(), 1)  # noqa: E731
    return mean(apart, pairs) / jnp.maximum(jnp.sqrt(mean(length, rows * 1.0)), 1e-12)
