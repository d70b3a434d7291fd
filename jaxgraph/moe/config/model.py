"""The architecture, and which of its options go together."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.fields import Count, Fraction, Positive
from jaxgraph.moe.config.coupling import EDGE_SIZE, MAX_HYPEREDGES, Hypergraph
from jaxgraph.moe.config.geometric import Geometric, Rotation, Views
from jaxgraph.moe.config.ghosts import Ghosts
from jaxgraph.moe.config.orthogonality import Orthogonality
from jaxgraph.moe.config.router import Router


@dataclass(frozen=True)
class Model:
    """Architecture."""

    mode: Literal["gnn", "hgnn", "orthogonal", "ghost"] = "ghost"
    """`gnn`: mean over experts. `hgnn`: hypergraph coupling. `orthogonal`: coupling and
    orthogonality loss. `ghost`: all of it and ghosts."""
    coupling: Literal["by_mode", "none"] = "by_mode"
    """`none` takes the mean over experts in mode `ghost` too."""
    vocab_size: Count = 0
    """0 takes the tokenizer's."""
    max_seq_len: Positive = 512
    """Learned positions."""
    width: Positive = 128
    """Width of the residual stream."""
    num_layers: Positive = 2
    """Layers, each with experts and ghosts of its own."""
    num_heads: Positive = 4
    """Attention heads of an expert; their number divides `width`."""
    num_experts: Positive = 4
    """Primary experts per layer; all of them see every token."""
    ffn_factor: Positive = 4
    """Hidden width of an expert's FFN as a multiple of `width`."""
    dropout: Fraction = 0.1
    """Share of activations zeroed in training."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters, softmax, norms' statistics and losses stay float32."""
    expert_loop: Literal["auto", "vmap", "map"] = "auto"
    """Experts side by side (best on GPUs) or one after the other (best on CPUs); same numbers."""
    remat: bool = False
    """Recompute each layer in the backward pass instead of keeping its activations."""
    hypergraph: Hypergraph = Hypergraph()
    router: Router = Router()
    ghosts: Ghosts = Ghosts()
    orthogonality: Orthogonality = Orthogonality()
    train_mode: Literal["standard", "geometric", "geometric_fast", "geometric_routed"] = "standard"
    """`geometric_routed`: every expert turns its input, in use as in training, at about the cost of
    `standard`. The seed's modes: `geometric` trains on one presentation of the embeddings per
    expert, each through the whole network; `geometric_fast` only shrinks angles that nothing uses
    (docs/parity.md, D8 to D11)."""
    rotation: Rotation = Rotation()
    views: Views = Views()
    geometric: Geometric = Geometric()

    @property
    def routed(self) -> bool:
        """Whether layers hold turns."""
        return self.train_mode == "geometric_routed"

    @property
    def presents(self) -> bool:
        """Whether the model holds the seed's rotator."""
        return self.train_mode in ("geometric", "geometric_fast")

    @property
    def coupled(self) -> bool:
        """Whether experts are coupled by the hypergraph."""
        return self.mode != "gnn" and self.coupling == "by_mode"

    @property
    def num_nodes(self) -> int:
        """Primary experts and ghosts of a layer."""
        return self.num_experts + self.ghosts.count

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.width % self.num_heads:
            yield "width", (
                f"{self.width} is not a multiple of num_heads {self.num_heads}; allowed: multiples"
            )
        if self.ghosts.count and self.mode != "ghost":
            yield "ghosts.count", (
                f"{self.ghosts.count} ghosts in mode {self.mode!r}; allowed: 0, or mode 'ghost'"
            )
        if self.coupling == "none" and self.mode in ("hgnn", "orthogonal"):
            yield "coupling", (
                f"'none' contradicts mode {self.mode!r}; allowed: 'by_mode', or mode gnn or ghost"
            )
        size = EDGE_SIZE.get(self.hypergraph.strategy, 1)
        if self.coupled and self.num_experts < size:
            yield "num_experts", (
                f"{self.num_experts} experts cannot form {self.hypergraph.strategy}; "
                f"allowed: at least {size}, or mode 'gnn'"
            )
        least = max(size, 2)
        triple = self.coupled and self.hypergraph.operator == "triple"
        if triple and self.ghosts.count < least:
            yield "hypergraph.operator", (
                f"'triple' couples {self.ghosts.count} ghosts by {self.hypergraph.strategy}; "
                f"allowed: ghosts.count at least {least}, or operator 'weighted'"
            )
        if self.coupled and math.comb(self.num_nodes, size) > MAX_HYPEREDGES:
            yield "hypergraph.strategy", (
                f"{self.hypergraph.strategy!r} over {self.num_nodes} experts gives "
                f"{math.comb(self.num_nodes, size)} hyperedges; allowed: at most {MAX_HYPEREDGES}, "
                "for example with 'all'"
            )
        if self.routed and 2 * self.rotation.planes > self.width:
            yield "rotation.planes", (
                f"{self.rotation.planes} planes need twice as many dimensions; allowed at width "
                f"{self.width}: at most {self.width // 2}"
            )
        yield from self.router.conflicts(self)
        if self.presents and self.views.shared_basis and self.width < 4:
            yield "views.shared_basis", f"True at width {self.width}; allowed from width 4"
        forward = bool(self.ghosts.count) and self.ghosts.timing == "forward"
        if self.train_mode == "geometric" and self.views.loop == "vmap" and forward:
            yield "views.loop", (
                "'vmap' with ghosts.timing 'forward', where each presentation changes the levels "
                "of the next; allowed: 'scan'"
            )
