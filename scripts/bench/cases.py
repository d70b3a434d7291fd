"""What is measured: modes, sizes, and the model of a row, the same object on both sides."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from jaxgraph.moe.config import Ghosts, Hypergraph, Model, Orthogonality, Rotation, Views

# The seed's statistic and mixing, so that both sides do the same work. No saturation reaches the
# threshold: ghosts stay as the row says, asleep or awake, through all repeats.
GHOSTS = Ghosts(count=4, threshold=1e9, statistic="original", timing="forward", mixing="original")
ORIGINAL = Hypergraph(operator="original")


@dataclass(frozen=True)
class Mode:
    """One kind of model."""

    options: dict[str, Any]
    awake: bool = False
    """Ghosts work at full level; otherwise they sleep."""
    unmatched: str = ""
    """Why there is no reference, if there is none."""
    against: str = ""
    """The mode of ours to measure it against instead."""


OWN = "measured against our own step"
MODES = {
    "gnn": Mode({"mode": "gnn"}),
    "hgnn": Mode({"mode": "hgnn", "hypergraph": ORIGINAL}),
    "hgnn_weighted": Mode(
        {"mode": "hgnn"}, against="gnn",
        unmatched="the original has no weighted hypergraph operator",
    ),
    "ghost_dormant": Mode({"mode": "ghost", "hypergraph": ORIGINAL, "ghosts": GHOSTS}),
    # Uncoupled: nothing reads the ghosts of the original's coupler (spec D3), so our program would
    # drop their work, and the losses would agree whatever they compute.
    "ghost_awake": Mode({"mode": "gnn", "ghosts": GHOSTS}, awake=True),
    "geometric": Mode(
        {"mode": "hgnn", "train_mode": "geometric"}, unmatched=OWN, against="hgnn_weighted"
    ),
    "geometric_vmap": Mode(
        {"mode": "hgnn", "train_mode": "geometric", "views": Views(loop="vmap")},
        unmatched=OWN, against="hgnn_weighted",
    ),
    "geometric_fast": Mode(
        {"mode": "hgnn", "train_mode": "geometric_fast"}, unmatched=OWN, against="hgnn_weighted"
    ),
    "geometric_routed": Mode(
        {"mode": "hgnn", "train_mode": "geometric_routed", "rotation": Rotation(angles="token")},
        unmatched=OWN, against="hgnn_weighted",
    ),
}
PASSES = ("train", "forward")


@dataclass(frozen=True)
class Sizes:
    """Sizes that are no options of the command; these are the original's defaults."""

    vocab_size: int = 50257
    width: int = 128
    num_layers: int = 2
    num_heads: int = 4
    num_experts: int = 4


QUICK = Sizes(vocab_size=300, width=16, num_layers=1, num_heads=2)


@dataclass(frozen=True)
class Row:
    """Everything that both processes must know of a row; travels as JSON."""

    mode: str
    task: str
    """`train`: one optimiser step. `forward`: the loss of a batch, without gradients."""
    tokens: int
    batch: int
    threads: int
    trainable: str
    dropout: float
    dtype: str
    sizes: Sizes
    lr: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.mode} {self.task} {self.tokens}"

    @property
    def model(self) -> Model:
        """Orthogonality weighs 0: the original's loss of that name is a constant (spec D5)."""
        return Model(
            **MODES[self.mode].options,
            **dataclasses.asdict(self.sizes),
            max_seq_len=max(512, self.tokens),
            dropout=self.dropout,
            dtype=self.dtype,
            orthogonality=Orthogonality(weight=0.0),
        )

    @property
    def awake(self) -> bool:
        return MODES[self.mode].awake

    @property
    def rival(self) -> "Row | None":
        """The same work in the mode of ours that this one is measured against."""
        mode = MODES[self.mode].against
        return dataclasses.replace(self, mode=mode) if mode else None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> "Row":
        return cls(**tree | {"sizes": Sizes(**tree["sizes"])})
