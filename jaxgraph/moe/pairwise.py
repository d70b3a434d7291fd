"""Pairwise coupling: experts of one token send each other gated messages (spec/moe.md, section 8).

The seed's first coupler. Like every coupling it acts on one token at a time.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from jaxgraph.moe.config import Hypergraph
from jaxgraph.moe.experts import NORMAL, norm
from jaxgraph.moe.linear import Linear


class Messages(struct.PyTreeNode):
    """Parameters of one round of messages."""

    adjacency: Any
    """[n, n] logits: how much node n listens to node m."""
    neighbour: Any
    """Kernel [d, d] and bias [d] applied to the sum of what a node hears."""
    own: Any
    """Kernel [d, d] and bias [d] applied to the node itself."""
    gate: Any
    """Kernel [2d] and bias [1] that weigh a message by its receiver and its sender."""


class Round(nn.Module):
    """Holds one round's parameters."""

    num_nodes: int
    width: int

    @nn.compact
    def __call__(self) -> Messages:
        square = (self.width, self.width)
        return Messages(
            self.param("adjacency", nn.initializers.zeros, (self.num_nodes, self.num_nodes)),
            Linear(NORMAL, square, square[:1], name="neighbour")(),
            Linear(NORMAL, square, square[:1], name="own")(),
            Linear(NORMAL, (2 * self.width,), (1,), name="gate")(),
        )


class PairwiseCoupler(nn.Module):
    """Holds a layer's coupling and turns what it pools into LN(gelu(W pooled + b))."""

    config: Hypergraph
    num_primary: int
    num_nodes: int
    width: int
    dtype: Any

    def setup(self):
        self.rounds = [
            Round(self.num_nodes, self.width, name=f"round_{j}")
            for j in range(self.config.convolutions)
        ]
        self.combine = nn.Dense(self.width, dtype=self.dtype, kernel_init=NORMAL, name="combine")
        self.norm = norm("norm", self.dtype)

    def coupling(self) -> tuple[Messages, ...]:
        """The parameters with which `pool_pairwise` works."""
        return tuple(messages() for messages in self.rounds)

    def __call__(self, pooled: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        return self.norm(nn.gelu(self.combine(pooled), approximate=False))

    def couple(
        self, features: Float[Array, "n b t d"], levels: Float[Array, " n"]
    ) -> Float[Array, "b t d"]:
        """`pool_pairwise` and what follows it."""
        return self(pool_pairwise(self.coupling(), features, levels))


def hear(
    messages: Messages, nodes: Float[Array, "n b t d"], levels: Float[Array, " n"]
) -> Float[Array, "n b t d"]:
    """x_i' = gelu(W_n Σ_{j≠i} s_ij x_j + b_n + W_s x_i + b_s), what a round adds to its nodes.

    s_ij = level_j · sigmoid(A_ij) · sigmoid(w·[x_i; x_j] + b): a sleeping sender says nothing. With
    all levels 1 this is the seed's round (spec 8).
    """
    count, _, _, width = nodes.shape
    kernel, bias = messages.gate
    kernel = kernel.astype(nodes.dtype)
    score = lambda part: jnp.einsum(  # noqa: E731
        "nbtd,d->nbt", nodes, part, preferred_element_type=jnp.float32
    )
    receiver, sender = score(kernel[:width]), score(kernel[width:])
    gate = jax.nn.sigmoid(receiver[:, None] + sender[None, :] + bias[:, None, None, None])
    weight = jax.nn.sigmoid(messages.adjacency[:count, :count]) * levels[None, :count]
    weight = weight * (1 - jnp.eye(count))
    heard = jnp.einsum(
        "nmbt,mbtd->nbtd", (weight[:, :, None, None] * gate).astype(nodes.dtype), nodes
    )
    return nn.gelu(
        _affine(messages.neighbour, heard) + _affine(messages.own, nodes), approximate=False
    )


def pool_pairwise(
    coupling: tuple[Messages, ...],
    features: Float[Array, "n b t d"],
    levels: Float[Array, " m"],
) -> Float[Array, "b t d"]:
    """X <- X + hear(X) per round, then the mean over nodes, weighted by level.

    `levels` are those of all nodes; `features` may be of the first few only, if the others sleep:
    the result is the same.
    """
    levels = levels[: features.shape[0]]
    nodes = features
    for messages in coupling:
        nodes = nodes + hear(messages, nodes, levels)
    return jnp.einsum("n,nbtd->btd", (levels / levels.sum()).astype(nodes.dtype), nodes)


def _affine(linear: Any, x: Float[Array, "n b t d"]) -> Float[Array, "n b t d"]:
    kernel, bias = (part.astype(x.dtype) for part in linear)
    return x @ kernel + bias[None, None, None]
