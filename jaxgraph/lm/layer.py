"""One decoder layer as pure functions of its weights (spec/latentwire.md, section 5)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgraph.lm.config import Architecture
from jaxgraph.lm.rotary import Rotation, rotate

Weights = Mapping[str, Any]


def rms_norm(
    x: Float[Array, "*n d"], scale: Float[Array, " d"], eps: float
) -> Float[Array, "*n d"]:
    """scale · x / sqrt(mean x² + eps), in float32."""
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), -1, keepdims=True) + eps)
    wide = wide * scale.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))
    return wide.astype(x.dtype)


def linear(x: Float[Array, "b t n"], weights: Weights) -> Float[Array, "b t m"]:
    """Weights of any dtype; the product is in that of x."""
    out = jnp.einsum("btn,nm->btm", x, weights["kernel"].astype(x.dtype))
    if "bias" in weights:
        out = out + weights["bias"].astype(x.dtype)[None, None]
    return out


def run_layer(
    arch: Architecture,
    weights: Weights,
    x: Float[Array, "b t d"],
    rotation: Rotation,
    attend: Callable[..., Float[Array, "b t h k"]],
) -> Float[Array, "b t d"]:
    """Attention and gated feed-forward network, each behind a norm and around a residual.

    Args:
      attend: gets queries ``[b t h k]``, and the keys and values ``[b t g k]`` of these tokens;
        what else may be seen is its own affair.
    """
    batch, length, _ = x.shape
    h = rms_norm(x, weights["attention_norm"]["scale"], arch.norm_eps)
    query, key, value = (
        linear(h, weights[name]).reshape(batch, length, -1, arch.head_width)
        for name in ("query", "key", "value")
    )
    out = attend(rotate(query, rotation), rotate(key, rotation), value)
    x = x + linear(out.reshape(batch, length, -1), weights["out"])
    h = rms_norm(x, weights["mlp_norm"]["scale"], arch.norm_eps)
    gate, up = linear(h, weights["gate"]), linear(h, weights["up"])
    return x + linear(jax.nn.silu(gate) * up, weights["down"])
