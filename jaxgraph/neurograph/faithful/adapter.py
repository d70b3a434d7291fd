"""Images to the indices of the input nodes, by a fixed network of floats
(spec/neurograph.md, section 9).

The original never trains it: `floor` cuts its gradient, and no optimiser knows it. It is a random
map, made once; its floats are counted apart from the integer parameters.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgraph.neurograph.faithful.cell import Indices
from jaxgraph.neurograph.tables import quantise_share

LAYER_NORM_EPS = 1e-5
HIDDEN_GAIN, OUTPUT_GAIN = 2**0.5, 0.5
LINEAR_SCALE = 0.1

Layer = dict[str, Any]
"""`kernel` ``[in, out]`` and `bias`; `scale` and `shift` of a norm behind a hidden layer."""


def init_adapter(key: Any, widths: Sequence[int], layer_norm: bool) -> list[Layer]:
    """Weights of the layers between these widths; one layer alone is the original's variant that
    is not learnable, 0.1 times a normal matrix."""
    if len(widths) == 2:
        kernel = LINEAR_SCALE * jax.random.normal(key, widths)
        return [{"kernel": kernel, "bias": jnp.zeros(widths[1])}]
    layers: list[Layer] = []
    pairs = list(zip(widths[:-1], widths[1:], strict=True))
    for i, (fan_in, fan_out) in enumerate(pairs):
        last = i == len(pairs) - 1
        limit = (OUTPUT_GAIN if last else HIDDEN_GAIN) * (6 / (fan_in + fan_out)) ** 0.5
        kernel = jax.random.uniform(
            jax.random.fold_in(key, i), (fan_in, fan_out), minval=-limit, maxval=limit
        )
        layer = {"kernel": kernel, "bias": jnp.zeros(fan_out)}
        if layer_norm and not last:
            layer |= {"scale": jnp.ones(fan_out), "shift": jnp.zeros(fan_out)}
        layers.append(layer)
    return layers


def project(
    layers: Sequence[Layer], x: Float[Array, "b d"], key: Any | None = None, dropout: float = 0.0
) -> Float[Array, "b f"]:
    """Values in [-1, 1]: ReLU, and norm if it has weights, between layers; tanh at the end.

    With a key, hidden values are dropped, except those of the last hidden layer.
    """
    for i, layer in enumerate(layers[:-1]):
        x = jax.nn.relu(_linear(layer, x))
        if "scale" in layer:
            mean = jnp.mean(x, -1, keepdims=True)
            variance = jnp.mean(jnp.square(x - mean), -1, keepdims=True)
            x = (x - mean) * jax.lax.rsqrt(variance + LAYER_NORM_EPS)
            x = x * layer["scale"][None] + layer["shift"][None]
        if key is not None and dropout and i < len(layers) - 2:
            kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - dropout, x.shape)
            x = jnp.where(kept, x / (1 - dropout), 0.0)
    return jnp.tanh(_linear(layers[-1], x))


def quantise(
    projected: Float[Array, "b f"], width: int, phase_bins: int, mag_bins: int
) -> Indices:
    """Indices ``[b, i, d]``: of each pair of values, the first is a phase, the second a
    magnitude."""
    pairs = projected.reshape(len(projected), -1, width, 2)
    share = (pairs + 1) / 2
    return Indices(
        quantise_share(share[..., 0], phase_bins),
        quantise_share(share[..., 1], mag_bins),
    )


def _linear(layer: Layer, x: Float[Array, "b d"]) -> Float[Array, "b f"]:
    return jnp.einsum("bd,df->bf", x, layer["kernel"]) + layer["bias"][None]
