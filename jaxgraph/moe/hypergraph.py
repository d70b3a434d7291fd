"""Hypergraph coupling: the experts of one token exchange features over shared hyperedges.

Everything here acts on one token at a time, so it cannot leak the future (docs/parity.md, D1).
"""

import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from jaxgraph.moe.config import EDGE_SIZE, Hypergraph
from jaxgraph.moe.experts import NORMAL, norm
from jaxgraph.moe.linear import Linear

ONE_BEFORE_SOFTPLUS = math.log(math.e - 1)


def incidence(num_nodes: int, strategy: str) -> Float[np.ndarray, "n m"]:
    """1 where node n belongs to hyperedge m; edges in lexicographic order (spec 3.3)."""
    size = EDGE_SIZE.get(strategy, num_nodes)
    edges = list(itertools.combinations(range(num_nodes), size))
    table = np.zeros((num_nodes, len(edges)), np.float32)
    for column, edge in enumerate(edges):
        table[list(edge), column] = 1
    return table


def original_operator(num_primary: int, num_nodes: int, strategy: str) -> Float[np.ndarray, "n n"]:
    """D⁻¹ H B⁻¹ Hᵀ over the primary experts; rows and columns of ghosts are zero (spec 3.3)."""
    table = np.zeros((num_nodes, num_nodes), np.float64)
    edges = incidence(num_primary, strategy).astype(np.float64)
    if edges.shape[1]:
        degree = edges.sum(1, keepdims=True)
        table[:num_primary, :num_primary] = (edges / edges.sum(0)) @ edges.T / degree
    return table.astype(np.float32)


def weighted_operator(
    edges: Float[np.ndarray, "n m"],
    weights: Float[Array, " m"],
    levels: Float[Array, " n"],
) -> Float[Array, "n n"]:
    """D⁻¹ H W B⁻¹ Hᵀ with positive edge weights and members that count by their level.

    An edge is as active as its members are on average, its strongest left out: an edge with one
    awake member connects nothing and drops out. Rows of awake nodes that have an active edge sum
    to 1; rows and columns of sleeping nodes are zero. With all levels 1 this is the operator of
    Feng et al. 2019 (hypergraph neural networks).
    """
    member = edges * levels[:, None]
    weighted = member * active_weights(edges, weights, levels)[None]
    degree = weighted.sum(1, keepdims=True)
    share = weighted / jnp.where(degree > 0, degree, 1)
    total = member.sum(0)
    return share @ (member / jnp.where(total > 0, total, 1)[None]).T


def active_weights(
    edges: Float[np.ndarray, "n m"],
    weights: Float[Array, " m"],
    levels: Float[Array, " n"],
) -> Float[Array, " m"]:
    """Each hyperedge's weight times how active the edge is."""
    member = edges * levels[:, None]
    size = edges.sum(0)
    activity = (member.sum(0) - member.max(0)) / np.maximum(size - 1, 1)
    return weights * jnp.where(size > 1, activity, member.sum(0))


class Coupling(struct.PyTreeNode):
    """Parameters of one layer's coupling."""

    convs: tuple
    """Kernel [d, d] and bias [d] of each convolution."""
    weights: Any
    """[m]: positive weights of the hyperedges; None with the seed's operator, as is `gate`."""
    gate: Any
    """Kernel [d] and bias [n] that score a node for the read-out."""


class Coupler(nn.Module):
    """Holds a layer's coupling and turns what it pools into LN(gelu(W pooled + b))."""

    config: Hypergraph
    num_primary: int
    num_nodes: int
    width: int
    dtype: Any

    def setup(self):
        square = (self.width, self.width)
        self.convs = [
            Linear(nn.initializers.glorot_uniform(), square, square[:1], name=f"conv_{j}")
            for j in range(self.config.convolutions)
        ]
        self.combine = nn.Dense(self.width, dtype=self.dtype, kernel_init=NORMAL, name="combine")
        self.norm = norm("norm", self.dtype)
        weighted = self.config.operator == "weighted"
        edges = incidence(self.num_nodes if weighted else self.num_primary, self.config.strategy)
        self.hyperedge_weights = None
        if self.config.learnable_weights and edges.shape[1]:
            # The seed starts at N(0, 1) and never reads them; ours start at softplus(w) = 1.
            start = nn.initializers.constant(ONE_BEFORE_SOFTPLUS)
            self.hyperedge_weights = self.param(
                "hyperedge_weights", start if weighted else nn.initializers.normal(1.0),
                (edges.shape[1],),
            )
        if weighted:
            self.gate = Linear(nn.initializers.zeros, (self.width,), (self.num_nodes,), name="gate")

    def coupling(self) -> Coupling:
        """The parameters with which `pool_weighted` or `pool_original` works."""
        convs = tuple(jax.tree.map(lambda p: p.astype(self.dtype), conv()) for conv in self.convs)
        if self.config.operator == "original":
            return Coupling(convs, None, None)
        weights = self.hyperedge_weights
        if weights is None:
            weights = jnp.ones(incidence(self.num_nodes, self.config.strategy).shape[1])
        else:
            weights = jax.nn.softplus(weights)
        return Coupling(convs, weights, self.gate())

    def __call__(self, pooled: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        return self.norm(nn.gelu(self.combine(pooled), approximate=False))

    def couple(
        self, features: Float[Array, "n b t d"], levels: Float[Array, " n"]
    ) -> Float[Array, "b t d"]:
        """`pool_weighted` and what follows it, for who calls the coupler as a pure function."""
        return self(pool_weighted(self.coupling(), self.config.strategy, features, levels))


def pool_weighted(
    coupling: Coupling,
    strategy: str,
    features: Float[Array, "n b t d"],
    levels: Float[Array, " m"],
) -> Float[Array, "b t d"]:
    """X <- X + gelu(S X Θ + b) per convolution, then a gated mean over the awake nodes.

    `levels` are those of all nodes; `features` may be of the first few only, if the others sleep:
    the result is the same.
    """
    count = features.shape[0]
    edges = incidence(len(levels), strategy)
    operator = weighted_operator(edges, coupling.weights, levels)[:count, :count]
    operator = operator.astype(features.dtype)
    nodes = features
    for kernel, bias in coupling.convs:
        mixed = jnp.einsum("nm,mbtd->nbtd", operator, nodes @ kernel)
        nodes = nodes + nn.gelu(mixed + _wide(bias), approximate=False)
    kernel, bias = coupling.gate
    scores = jnp.einsum("nbtd,d->nbt", nodes, kernel, preferred_element_type=jnp.float32)
    levels = levels[:count]
    awake = jnp.where(levels > 0, jnp.log(jnp.maximum(levels, 1e-12)), -jnp.inf)
    scores = scores + (bias[:count] + awake)[:, None, None]
    share = jax.nn.softmax(scores, axis=0).astype(nodes.dtype)
    return jnp.einsum("nbt,nbtd->btd", share, nodes)


def pool_original(
    coupling: Coupling,
    strategy: str,
    primaries: Float[Array, "p b t d"],
    num_nodes: int,
) -> Float[Array, "b t d"]:
    """The seed's convolutions and mean, in closed form; ghosts do not enter.

    The operator is doubly stochastic on the primaries and nothing nonlinear stands before the mean,
    so the sum over primaries carries all there is (spec 3.3). Equal to the mean of the last of
    `trace_original`.
    """
    count = primaries.shape[0]
    if not incidence(count, strategy).shape[1]:
        raise ValueError(f"{count} primary experts form no {strategy}")
    total = primaries.sum(0)
    for kernel, bias in coupling.convs[:-1]:
        total = total @ kernel + count * bias[None, None]
    kernel, bias = coupling.convs[-1]
    return (total @ kernel) / num_nodes + bias[None, None]


def trace_original(
    coupling: Coupling,
    strategy: str,
    primaries: Float[Array, "p b t d"],
    num_nodes: int,
) -> tuple[Float[Array, "b t n d"], ...]:
    """Nodes after each of the seed's convolutions, in full; rows of ghosts hold the bias alone."""
    count = primaries.shape[0]
    operator = original_operator(count, num_nodes, strategy)[:, :count]
    nodes, trace = primaries, []
    for kernel, bias in coupling.convs:
        nodes = jnp.einsum("np,pbtd->nbtd", operator, nodes[:count] @ kernel)
        nodes = nodes + _wide(bias)
        trace.append(jnp.moveaxis(nodes, 0, 2))
    return tuple(trace)


def _wide(bias: Float[Array, " d"]) -> Float[Array, "1 1 1 d"]:
    return bias[None, None, None]
