"""Layers on real vectors and on pairs of real vectors (spec/vae.md, sections 3 and 4)."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgraph.vae.dropout import Dropout

EPS = 1e-6
"""Keeps the magnitude's gradient finite at 0; the seed's value."""
ACTIVATIONS: dict[str, Callable] = {
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "softplus": jax.nn.softplus,
}
# PyTorch's Linear: weight and bias uniform within 1 / sqrt(inputs).
KERNEL = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def uniform_bias(inputs: int) -> Callable:
    """Initialiser of a bias behind `inputs` inputs, as PyTorch's Linear has it."""
    bound = inputs**-0.5

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def dense(inputs: int, outputs: int, name: str) -> nn.Dense:
    return nn.Dense(outputs, kernel_init=KERNEL, bias_init=uniform_bias(inputs), name=name)


class RealLayer(nn.Module):
    """Linear map, LayerNorm, activation, dropout."""

    inputs: int
    outputs: int
    activation: str
    layernorm: bool
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "b n"], train: bool) -> Float[Array, "b m"]:
        x = dense(self.inputs, self.outputs, "linear")(x)
        if self.layernorm:
            x = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name="norm")(x)
        x = ACTIVATIONS[self.activation](x)
        return Dropout(self.dropout, name="dropout")(x, train)


class ComplexLinear(nn.Module):
    """y = (A + iB) x + bias, on pairs [b, 2, n] of real and imaginary part.

    The biases a + c and a + d hold a twice, as the seed's do: its checkpoints have all three.
    """

    inputs: int
    outputs: int

    @nn.compact
    def __call__(self, x: Float[Array, "b p n"]) -> Float[Array, "b 2 m"]:
        """`p` is 2, or 1 for vectors without imaginary part."""
        shape = self.inputs, self.outputs
        a, b = (self.param(f"{name}_kernel", KERNEL, shape) for name in ("real", "imag"))
        shared = self.param("bias", uniform_bias(self.inputs), (self.outputs,))
        own = [
            self.param(f"{name}_bias", nn.initializers.zeros, (self.outputs,))
            for name in ("real", "imag")
        ]
        return complex_product(x, a, b) + (shared[None] + jnp.stack(own))[None]


def complex_product(
    x: Float[Array, "b p n"], a: Float[Array, "n m"], b: Float[Array, "n m"]
) -> Float[Array, "b 2 m"]:
    """(a + ib) x, as one real product of both parts with [a | b].

    Milliseconds for all layers of the default model, forward and backward, on one CPU core
    (batch 64, batch 1,024): four products 4.00, 73.1; this 3.62, 68.0; the block matrix
    [[a, b], [-b, a]] 3.90, 63.7; Gauss's three products 3.55, 65.3, which cancel in float32.
    """
    rows, parts, _ = x.shape
    product = x.reshape(rows * parts, -1) @ jnp.concatenate([a, b], axis=1)
    product = product.reshape(rows, parts, 2, -1)
    if parts == 1:
        return product[:, 0]
    real = product[:, 0, 0] - product[:, 1, 1]
    return jnp.stack([real, product[:, 0, 1] + product[:, 1, 0]], axis=1)


class ComplexLayer(nn.Module):
    """Linear map, activation of magnitudes, dropout of single coordinates."""

    inputs: int
    outputs: int
    activation: str
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "b p n"], train: bool) -> Float[Array, "b 2 m"]:
        x = ComplexLinear(self.inputs, self.outputs, name="linear")(x)
        x = activate_magnitude(x, self.activation)
        return Dropout(self.dropout, name="dropout")(x, train)


def activate_magnitude(x: Float[Array, "b 2 n"], activation: str) -> Float[Array, "b 2 n"]:
    """Activation of the magnitude; the phase stays. At 0, softplus has a gain of about 700."""
    magnitude = jnp.sqrt(jnp.sum(jnp.square(x), axis=1, keepdims=True) + EPS)
    return x * (ACTIVATIONS[activation](magnitude) / (magnitude + EPS))
