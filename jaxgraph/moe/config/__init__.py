"""Options of the geometric MoE language model."""

from jaxgraph.moe.config.coupling import EDGE_SIZE, Hypergraph
from jaxgraph.moe.config.geometric import Geometric, Rotation, Views
from jaxgraph.moe.config.ghosts import Ghosts
from jaxgraph.moe.config.model import Model
from jaxgraph.moe.config.moe import Moe, Optim, Sampling
from jaxgraph.moe.config.orthogonality import Adaptive, Orthogonality
from jaxgraph.moe.config.router import Router

__all__ = [
    "EDGE_SIZE", "Adaptive", "Geometric", "Ghosts", "Hypergraph", "Model", "Moe", "Optim",
    "Orthogonality", "Rotation", "Router", "Sampling", "Views",
]
