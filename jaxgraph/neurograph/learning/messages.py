"""Sums of messages over the edges of a layer, as one matrix product each."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgraph.neurograph.learning.topology import Layer


def gather_patches(x: Float[Array, "b h w d"], patch: int, stride: int) -> Float[Array, "b u v f"]:
    """The patch of each node of the next grid, place by place, row by row."""
    rows, columns = ((length - patch) // stride + 1 for length in x.shape[1:3])
    last_row, last_column = stride * (rows - 1) + 1, stride * (columns - 1) + 1
    return jnp.concatenate(
        [
            x[:, i : i + last_row : stride, j : j + last_column : stride]
            for i in range(patch)
            for j in range(patch)
        ],
        axis=-1,
    )


def sum_messages(
    layer: Layer, weights: Float[Array, "parts f n"], arriving: Float[Array, "b *n d"]
) -> Float[Array, "b *m e"]:
    """Sum of edge phasor times source phasor over the edges into each node.

    Real parts stand before imaginary ones in the last axis of signals and sums. All numbers are
    whole, so the order of summation does not matter.

    Args:
      arriving: a grid of signals for `patches`; for other layers ``[b, parts * nodes]``, for
        `sparse` of all earlier nodes.
    """
    if layer.kind == "patches":
        places = layer.patch**2
        matrix = as_real(weights.reshape(len(weights), places, -1, layer.width), layer.parts)
        patches = gather_patches(arriving, layer.patch, layer.stride)
        return _product(patches, matrix.reshape(-1, matrix.shape[-1]))
    if layer.kind == "sparse":
        known = arriving.shape[-1] // layer.parts
        empty = jnp.zeros((len(weights), known, layer.width), weights.dtype)
        weights = empty.at[:, layer.sources, jnp.arange(layer.width)[None]].set(weights)
    return _product(arriving, as_real(weights, layer.parts))


def as_real(
    weights: Float[Array, "parts *p c n"], arriving: int
) -> Float[Array, "*p d e"]:
    """The real matrix that multiplies by complex weights.

    Args:
      weights: real part, and imaginary part if sums have one.
      arriving: parts of the signals.
    """
    if len(weights) == 1:
        return weights[0]
    real, imaginary = weights
    rows = [jnp.concatenate([real, imaginary], axis=-1)]
    if arriving == 2:
        rows.append(jnp.concatenate([-imaginary, real], axis=-1))
    return jnp.concatenate(rows, axis=-2)


def _product(x: Array, matrix: Array) -> Array:
    # Half-precision passes, which GPUs and TPUs take for float32 by default, would not be exact.
    return jnp.einsum("...d,de->...e", x, matrix, precision=jax.lax.Precision.HIGHEST)
