"""Dropout that draws 16 bits an activation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LEVELS = 2**16


class Dropout(nn.Module):
    """Zeroes a share of the activations in training, and scales the others so that means stay.

    The share is rounded to a multiple of 2**-16, and scaled for as it is rounded. Two activations
    share one 32-bit draw: with one draw each, drawing is a third of a step of the default model at
    batch 1,024 on a CPU (54 ms against 42 ms, 35 ms without dropout).
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "b ..."], train: bool) -> Float[Array, "b ..."]:
        dropped = round(self.rate * LEVELS)
        if not train or dropped == 0:
            return x
        rows, columns = len(x), x[0].size
        words = jax.random.bits(self.make_rng("dropout"), (rows, (columns + 1) // 2), jnp.uint32)
        halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(rows, -1)
        kept = (halves[:, :columns] >= dropped).reshape(x.shape)
        return jnp.where(kept, x / (1 - dropped / LEVELS), 0)
