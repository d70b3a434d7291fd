"""How strongly the coupling in use connects each two nodes of a layer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgraph.moe.config import Model
from jaxgraph.moe.hypergraph import Coupler, active_weights, incidence
from jaxgraph.moe.triple import TripleCoupler, part_shares


def edge_connections(
    edges: Float[np.ndarray, "n m"],
    weights: Float[Array, " m"],
    levels: Float[Array, " n"],
) -> Float[Array, "n n"]:
    """A_uv = Σ_m weight_m · activity_m · level_u · level_v over hyperedges m that hold u and v.

    Symmetric, its diagonal 0. With all levels 1 it is the sum of the weights of shared edges.
    """
    member = edges * levels[:, None]
    total = (member * active_weights(edges, weights, levels)[None]) @ member.T
    return total * (1 - jnp.eye(len(edges)))


def weighted_connections(
    coupler: Any, config: Model, levels: Float[Array, " n"]
) -> Float[Array, "n n"]:
    """Of operator `weighted`."""
    module = Coupler(
        config.hypergraph, config.num_experts, config.num_nodes, config.width, jnp.float32
    )
    weights = module.bind({"params": coupler}).coupling().weights
    return edge_connections(incidence(len(levels), config.hypergraph.strategy), weights, levels)


def pairwise_connections(
    coupler: Any, config: Model, levels: Float[Array, " n"]
) -> Float[Array, "n n"]:
    """Of operator `pairwise`: level_v · sigmoid(A_uv), how much u listens to v before the gate that
    depends on the token; mean over rounds."""
    rounds = [coupler[f"round_{j}"]["adjacency"] for j in range(config.hypergraph.convolutions)]
    heard = jax.nn.sigmoid(jnp.stack(rounds)).mean(0) * levels[None]
    return heard * jnp.where(levels > 0, 1.0, 0.0)[:, None] * (1 - jnp.eye(len(levels)))


def triple_connections(
    coupler: Any, config: Model, levels: Float[Array, " n"]
) -> Float[Array, "n n"]:
    """Of operator `triple`: its three hypergraphs by their shares."""
    primaries, nodes = config.num_experts, config.num_nodes
    module = TripleCoupler(config.hypergraph, primaries, nodes, config.width, jnp.float32)
    triple = module.bind({"params": coupler}).triple
    members = (slice(primaries), slice(primaries, nodes), slice(nodes))
    total = jnp.zeros((nodes, nodes))
    for (name, part), share, of in zip(
        triple.modules.items(), part_shares(triple.mix, levels[primaries:]), members, strict=True
    ):
        weights = part.bind({"params": triple.params[name]}).coupling().weights
        edges = incidence(part.num_nodes, config.hypergraph.strategy)
        total = total.at[of, of].add(share * edge_connections(edges, weights, levels[of]))
    return total


CONNECTIONS = {
    "weighted": weighted_connections,
    "pairwise": pairwise_connections,
    "triple": triple_connections,
}
"""By operator. The seed's is left out: its output depends on no edge (docs/parity.md, D7)."""
