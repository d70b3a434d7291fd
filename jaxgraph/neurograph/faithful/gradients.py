"""The original's gradients by signals, and what it makes of them for indices
(spec/neurograph.md, sections 2 and 12).

They are kept as they are, errors included: no label enters the outputs' gradient (D1), and the
magnitude's lacks the factor cos(x) (D3). True derivatives are those of the learning mode.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgraph.neurograph.faithful.readout import EPS
from jaxgraph.neurograph.tables import Tables, look_up


class IndexGradient(NamedTuple):
    """By phase and by magnitude, ``[..., d]``."""

    phase: Any
    mag: Any


def output_gradient(
    signals: Float[Array, "o d"], codes: Float[Array, "c d"]
) -> Float[Array, "o d"]:
    """Gradient of the mean cosine with all class codes."""
    norm = _norm(signals) + EPS
    code_norm = _norm(codes) + EPS
    dot = jnp.einsum("od,cd->oc", signals, codes, precision="highest")
    toward = jnp.mean(codes / code_norm, 0)[None] / norm
    share = jnp.mean(dot / code_norm.T, 1, keepdims=True)
    return toward - signals * share / norm**3


def credit_gradient(
    signals: Float[Array, "n d"], target: Float[Array, " d"]
) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
    """Cosine of each node's signal with the label's code, and the gradient of minus it: the local
    credit of intermediate nodes, all at once."""
    norm, target_norm = _norm(signals), _norm(target)
    dot = jnp.einsum("nd,d->n", signals, target, precision="highest")[:, None]
    cosine = dot / (jnp.maximum(norm, EPS) * jnp.maximum(target_norm, EPS))
    pull = (target / (target_norm + EPS))[None]
    gradient = -(pull - signals * cosine / (norm + EPS)) / (norm + EPS)
    return cosine[:, 0], gradient


def index_gradient(
    tables: Tables,
    phase: Int[Array, "*n d"],
    mag: Int[Array, "*n d"],
    upstream: Float[Array, "*n d"],
) -> IndexGradient:
    """(-sin(phase) value, cos(phase) value) times the gradient by the signal."""
    value = look_up(tables.exp_sin, mag) * upstream
    return IndexGradient(
        -look_up(tables.sin, phase) * value, look_up(tables.cos, phase) * value
    )


def _norm(x: Float[Array, "*n d"]) -> Float[Array, "*n 1"]:
    return jnp.sqrt(jnp.sum(jnp.square(x), -1, keepdims=True))
