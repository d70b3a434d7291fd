"""Rotary positions in the half-split layout: the pair of coordinate j is j + width / 2."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgraph.lm.config import Architecture

Rotation = tuple[Float[Array, "#b t r"], Float[Array, "#b t r"]]
"""Cosines and sines of each position's head_width / 2 angles, float32."""


def frequencies(theta: float, width: int) -> Float[np.ndarray, " k"]:
    """theta^(-2j / width) for j below width / 2: radians a position, in float64."""
    return theta ** (-np.arange(0, width, 2, dtype=np.float64) / width)


def llama3_divisors(
    theta: float, width: int, *, factor: float, low: float, high: float, original: int
) -> tuple[float, ...]:
    """Divisors of Llama 3.1's longer context (spec/latentwire.md, section 5).

    Wavelengths below original / high stay, those above original / low grow by `factor`, and between
    them the two frequencies are blended.
    """
    wavelength = 2 * np.pi / frequencies(theta, width)
    kept = np.clip((original / wavelength - low) / (high - low), 0.0, 1.0)
    return tuple((1 / ((1 - kept) / factor + kept)).tolist())


def rotation(arch: Architecture, positions: Int[Array, "#b t"]) -> Rotation:
    """Cosines and sines at these positions."""
    angular = frequencies(arch.rope_theta, arch.head_width)
    if arch.rope_divisors:
        angular = angular / np.asarray(arch.rope_divisors)
    angular = jnp.asarray(angular, jnp.float32)
    angles = positions[..., None].astype(jnp.float32) * angular[None, None]
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Float[Array, "b t h k"], rotation: Rotation) -> Float[Array, "b t h k"]:
    """Turns each pair of coordinates by its angle, in float32."""
    cos, sin = (part[:, :, None] for part in rotation)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
