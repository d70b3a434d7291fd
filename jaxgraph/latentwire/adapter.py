"""From the wire to a model's soft prompt (spec/latentwire.md, section 3)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgraph.latentwire.layers import dense, gelu, norm, xavier

FLOOR = 1e-6
"""Smallest deviation and root mean square that anything is divided by."""


class Adapter(nn.Module):
    """An MLP with a skip, modulated by the wire itself (FiLM), with a norm behind."""

    width: int
    """Of the wire."""
    outputs: int
    """Width of the model's embeddings."""
    slots: int
    hidden_ratio: int = 2
    """1: one linear map, without hidden layers and skip."""
    metadata: bool = True
    """Slots know their places, and the answer's length where it is given."""
    length_norm: float = 32.0
    colour: bool = False
    """Standardise each vector, then scale and shift each coordinate."""

    @nn.compact
    def __call__(
        self, z: Float[Array, "b m d"], lengths: Int[Array, " b"] | None = None
    ) -> Float[Array, "b m e"]:
        """`lengths` are those of the answers: known in training only (D4)."""
        d, out = self.width, self.outputs
        if self.metadata:
            place = self.param("position", nn.initializers.normal(0.02), (self.slots, d))
            z = z + place[None]
            length = dense(1, d, "length")
            if lengths is not None:
                known = lengths[:, None, None].astype(jnp.float32) / self.length_norm
                z = z + jnp.tanh(length(known))
            elif self.is_initializing():
                length(jnp.zeros((1, 1, 1)))
        n = norm("input_norm")(z)
        if self.hidden_ratio > 1:
            hidden = self.hidden_ratio * d
            h = gelu(xavier(hidden, "middle")(gelu(xavier(hidden, "input")(n))))
            x = xavier(out, "output")(h) + xavier(out, "skip")(n)
        else:
            x = xavier(out, "output")(n)
        x = x * jax.nn.sigmoid(xavier(out, "film_scale")(z)) + xavier(out, "film_shift")(z)
        scale = self.param("scale", nn.initializers.ones, (1,))
        x = norm("output_norm")(x) * scale[None, None]
        return Colour(out, name="colour")(x) if self.colour else x


class Colour(nn.Module):
    """Gives vectors the mean and deviation of a model's embeddings, by coordinate."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b m e"]) -> Float[Array, "b m e"]:
        gamma = self.param("gamma", nn.initializers.ones, (self.width,))
        beta = self.param("beta", nn.initializers.zeros, (self.width,))
        deviation = jnp.maximum(jnp.std(x, -1, keepdims=True, ddof=1), FLOOR)
        x = (x - jnp.mean(x, -1, keepdims=True)) / deviation
        return x * gamma[None, None] + beta[None, None]


def rms(x: Float[Array, "b m e"]) -> Float[Array, "b 1 1"]:
    """Root mean square of each example."""
    return jnp.sqrt(jnp.mean(jnp.square(x), axis=(1, 2), keepdims=True))


def calibrate(
    prompt: Float[Array, "b m e"], target: Float[Array, ""] | float
) -> Float[Array, "b m e"]:
    """Scales each example to this root mean square; the adapter's `scale` cancels (D28)."""
    return prompt * (target / jnp.maximum(rms(prompt), FLOOR))
