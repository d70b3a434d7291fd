"""Layers of encoders and heads (spec/latentwire.md, section 2)."""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgraph.nn.attention_by_head import attend_by_head

XAVIER = nn.initializers.xavier_uniform()
# PyTorch's Linear: weight and bias uniform within 1 / sqrt(inputs).
UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
ZEROS = nn.initializers.zeros


def dot_tokens(
    x: Float[Array, "... d"], kernel: Float[Array, "d e"], dimensions: Any = None, **options: Any
) -> Float[Array, "... e"]:
    """x @ kernel over one axis of tokens: gradients of kernels that sum over several are slow on
    CPUs, as are gradients of tall kernels, which are turned and so get theirs wide. Signature of
    `lax.dot_general`, as `nn.Dense` calls it: contracts x's last axis."""
    flat = x.reshape(-1, x.shape[-1])
    tall = kernel.shape[0] > kernel.shape[1]
    if tall:  # XLA would undo it without the barrier
        kernel = jax.lax.optimization_barrier(kernel.T)
    out = jax.lax.dot_general(flat, kernel, (((1,), (int(tall),)), ((), ())), **options)
    return out.reshape(*x.shape[:-1], -1)


Linear = partial(nn.Dense, kernel_init=UNIFORM, bias_init=ZEROS, dot_general=dot_tokens)


def dense(inputs: int, outputs: int, name: str) -> nn.Dense:
    """A linear map, initialised as PyTorch's."""
    bound = inputs**-0.5

    def bias(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return Linear(outputs, bias_init=bias, name=name)


def plain(outputs: int, name: str) -> nn.Dense:
    """A linear map without bias."""
    return Linear(outputs, use_bias=False, name=name)


def xavier(outputs: int, name: str) -> nn.Dense:
    """A linear map whose bias begins at 0."""
    return Linear(outputs, kernel_init=XAVIER, name=name)


def norm(name: str) -> nn.LayerNorm:
    """Keeps only its input for the gradient: what else it would keep is several times as large."""
    return nn.remat(nn.LayerNorm)(epsilon=1e-5, use_fast_variance=False, name=name)


@jax.checkpoint
def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jax.nn.gelu(x, approximate=False)


def sinusoid(length: int, width: int) -> Float[np.ndarray, "t d"]:
    """Sines at even and cosines at odd places, of frequencies exp(-2i ln(10000) / width)."""
    steps = np.arange(0, width, 2, dtype=np.float32) * np.float32(-math.log(10000) / width)
    angles = np.arange(length, dtype=np.float32)[:, None] * np.exp(steps)[None]
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width)


def attend(
    query: Float[Array, "b t d"],
    key: Float[Array, "b s d"],
    value: Float[Array, "b s d"],
    heads: int,
    mask: Bool[Array, "b s"] | None = None,
) -> Float[Array, "b t d"]:
    """Attention of heads cut out of the width; without a mask all keys are seen.

    A row that sees no key gets the mean of its values.
    """
    query, key, value = (
        x.reshape(*x.shape[:2], heads, x.shape[-1] // heads) for x in (query, key, value)
    )
    seen = None if mask is None else mask[:, None, None]
    if jax.default_backend() == "cpu":
        out = attend_by_head(query, key, value, seen)
    else:
        out = jax.nn.dot_product_attention(query, key, value, mask=seen)
    return out.reshape(*out.shape[:2], -1)


class Attention(nn.Module):
    """Attention with queries, keys and values projected by one matrix, as PyTorch packs them."""

    width: int
    heads: int

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "b t d"],
        source: Float[Array, "b s d"],
        mask: Bool[Array, "b s"] | None = None,
        values: Float[Array, "b s d"] | None = None,
    ) -> Float[Array, "b t d"]:
        """`values` are those that are projected to values; None takes `source` for both."""
        d = self.width
        kernel = self.param("qkv_kernel", XAVIER, (d, 3 * d))
        bias = self.param("qkv_bias", ZEROS, (3 * d,))
        parts = zip(jnp.split(kernel, 3, 1), jnp.split(bias, 3), strict=True)
        inputs = query, source, source if values is None else values
        projected = [
            dot_tokens(x, weight) + offset[None, None]
            for x, (weight, offset) in zip(inputs, parts, strict=True)
        ]
        out = attend(*projected, self.heads, mask)
        return Linear(d, name="out")(out)


class PostNormLayer(nn.Module):
    """Attention and a feed-forward network, each with its norm behind the residual."""

    width: int
    heads: int
    ffn_ratio: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"] | None
    ) -> tuple[Float[Array, "b t d"], None]:
        d, hidden = self.width, self.width * self.ffn_ratio
        x = norm("attention_norm")(x + Attention(d, self.heads, name="attention")(x, x, mask))
        h = dense(hidden, d, "down")(gelu(dense(d, hidden, "up")(x)))
        return norm("mlp_norm")(x + h), None


class PostNormStack(nn.Module):
    """Such layers one after the other, their weights stacked, and a last norm."""

    width: int
    heads: int
    ffn_ratio: int
    layers: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"] | None = None
    ) -> Float[Array, "b t d"]:
        stacked = nn.scan(
            PostNormLayer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.layers,
            # A loop fills with zeros, and copies to and fro, what all layers keep for the gradient.
            unroll=self.layers,
        )
        x, _ = stacked(self.width, self.heads, self.ffn_ratio, name="layers")(x, mask)
        return norm("norm")(x)
