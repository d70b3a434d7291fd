"""Options of turns, presentations and their losses."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.fields import NonNegative, Positive, PositiveFloat


@dataclass(frozen=True)
class Rotation:
    """The turn in front of each expert (train_mode `geometric_routed`)."""

    kind: Literal["planes", "cayley"] = "planes"
    """`planes`: independent turns in planes of a learned basis. `cayley`: any rotation within the
    span of that basis, from a skew matrix."""
    planes: Positive = 4
    """Planes of the basis; twice as many dimensions are turned."""
    angles: Literal["constant", "token"] = "constant"
    """One angle per plane, expert and layer; or angles that follow from the token."""
    max_angle: PositiveFloat = 2.0
    """Bound of an angle in radians; with `cayley`, of an entry of the skew matrix."""
    placement: Literal["block", "norms"] = "block"
    """`block`: in front of the whole expert. `norms`: behind each of its norms, where a constant
    turn can be folded into the next weights."""
    undo: bool = True
    """Turn back what the expert gives, before experts are coupled."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.angles == "token" and self.kind == "cayley":
            yield "kind", "'cayley' would solve a system per token; allowed with 'token': 'planes'"
        if self.angles == "token" and self.placement == "norms":
            yield "placement", "'norms' needs angles 'constant'; allowed with 'token': 'block'"
        if self.placement == "norms" and not self.undo:
            yield "undo", "False has no meaning with placement 'norms'; allowed there: True"


@dataclass(frozen=True)
class Views:
    """Presentations of the token embeddings, one per expert, as in the seed (train_mode `geometric`
    and `geometric_fast`)."""

    kind: Literal["householder", "cayley", "givens"] = "householder"
    """`householder`: the seed's scaling of one direction, no rotation in spite of its name
    (docs/parity.md, D8). `cayley`, `givens`: its two other forms, which are rotations."""
    dimensions: Positive = 4
    """Parameters of each expert's turn."""
    max_angle: PositiveFloat = 2.0
    """Bound of the angles that are penalised, and that `cayley` and `givens` use."""
    shared_basis: bool = False
    """Also move each presentation along a basis that all share."""
    loop: Literal["scan", "vmap"] = "scan"
    """Presentations one after the other, computed again in the backward pass; or side by side,
    with memory for all of them. Same numbers."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.shared_basis and self.kind == "givens":
            yield "shared_basis", "True with kind 'givens', which has none; allowed: False"


@dataclass(frozen=True)
class Geometric:
    """Weights of the geometric losses."""

    orthogonality_weight: NonNegative = 0.5
    """Alike outputs (`geometric`) or updates (`geometric_routed`) of experts."""
    efficiency_weight: NonNegative = 0.2
    """Mean squared angle."""
    specialization_weight: NonNegative = 0.3
    """Experts that act alike on all tokens."""
    fast_weight: NonNegative = 0.001
    """Mean squared angle in `geometric_fast`, which has no other term."""
