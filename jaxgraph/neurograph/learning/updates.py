"""Steps of integer parameters: Adam's direction in bins, rounded to whole ones."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgraph.neurograph.learning.fixed import Pairs
from jaxgraph.neurograph.tables import Tables

UNIT_LIMIT = 0.1
"""Share of a bin from which the original moves a whole one (spec/neurograph.md, section 2)."""


class Moments(NamedTuple):
    """Running means of gradients and of their squares, per bin."""

    first: Any
    second: Any


class Rates(NamedTuple):
    """What a search may vary without compiling anew; scalars."""

    lr: Any
    """Radians."""
    b1: Any
    b2: Any
    temperature: Any
    smoothing: Any


def init_moments(params: Any) -> Moments:
    """Zeros."""
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params)
    return Moments(zeros, zeros)


def update_moments(moments: Moments, grads: Any, rates: Rates) -> Moments:
    """The moments after one more gradient."""

    def mean(old, new, decay):
        return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, old, new)

    squares = jax.tree.map(jnp.square, grads)
    return Moments(mean(moments.first, grads, rates.b1), mean(moments.second, squares, rates.b2))


def steps_in_bins(moments: Moments, rates: Rates, lr: Any, count: Any, tables: Tables, eps: float):
    """Steps before rounding; `count` is the number of gradients in the moments."""
    first, second = 1 - rates.b1**count, 1 - rates.b2**count
    widths = Pairs(tables.phase_width, tables.mag_width)

    def of(a: Pairs, b: Pairs) -> Pairs:
        return Pairs(*(
            -lr / width * (x / first) / (jnp.sqrt(y / second) + eps)
            for x, y, width in zip(a, b, widths, strict=True)
        ))

    return jax.tree.map(of, *moments, is_leaf=lambda x: isinstance(x, Pairs))


def round_steps(steps: Any, rounding: str, key: Any) -> Any:
    """Whole steps, int32."""
    leaves, tree = jax.tree.flatten(steps)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten(
        [_round(leaf, rounding, k) for leaf, k in zip(leaves, keys, strict=True)]
    )


def move(params: Any, steps: Any, tables: Tables) -> Any:
    """Indices moved by whole steps; both kinds wrap (the original's magnitudes clamp, D16)."""
    bins = Pairs(tables.phase_bins, tables.mag_bins)

    def of(pair: Pairs, step: Pairs) -> Pairs:
        return Pairs(*(
            ((x.astype(jnp.int32) + d) % n).astype(x.dtype)
            for x, d, n in zip(pair, step, bins, strict=True)
        ))

    return jax.tree.map(of, params, steps, is_leaf=lambda x: isinstance(x, Pairs))


def _round(x: Float[Array, "*n"], rounding: str, key: Any) -> Int[Array, "*n"]:
    if rounding == "stochastic":
        whole = jnp.floor(x + jax.random.uniform(key, x.shape))
    elif rounding == "nearest":
        whole = jnp.floor(x + 0.5)
    else:
        whole = jnp.where(jnp.abs(x) >= UNIT_LIMIT, jnp.sign(x), 0)
    return whole.astype(jnp.int32)
