"""How the experts of one token are coupled."""

from dataclasses import dataclass
from typing import Literal

from jaxgraph.fields import Positive

MAX_HYPEREDGES = 4096
EDGE_SIZE = {"pairs": 2, "triplets": 3}


@dataclass(frozen=True)
class Hypergraph:
    """Coupling of the experts of one token."""

    strategy: Literal["pairs", "triplets", "all"] = "pairs"
    """Hyperedges: every pair, every triplet, or one edge with all experts."""
    convolutions: Positive = 2
    """Hypergraph convolutions a layer."""
    operator: Literal["weighted", "original", "pairwise", "triple"] = "weighted"
    """`weighted`: positive edge weights, nonlinearity and residual between convolutions, gated
    read-out, active ghosts included. `original`: the seed's operator, whose output does not depend
    on edges or weights (docs/parity.md, D3, D7). `pairwise`: gated messages between every two
    experts, without hyperedges. `triple`: weighted hypergraphs of primaries, of ghosts and of both,
    which appear as ghosts wake."""
    learnable_weights: bool = True
    """Train one weight per hyperedge."""
