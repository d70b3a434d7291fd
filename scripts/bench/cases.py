"""What is measured of the MoE: modes, sizes, and the model of a row, the same on both sides."""

import argparse
import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

from bench.arguments import count, many, one_of, share
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

    system = "moe"
    modules = ("bench.ours", "bench.reference")
    drift = 0.1

    @property
    def name(self) -> str:
        return f"{self.mode} {self.task} {self.tokens}"

    @property
    def trains(self) -> bool:
        return self.task == "train"

    @property
    def items(self) -> int:
        """Tokens of a call."""
        return self.batch * self.tokens

    @property
    def unmatched(self) -> str:
        """Why a row has no reference; empty if it has one."""
        if MODES[self.mode].unmatched or self.dtype == "float32":
            return MODES[self.mode].unmatched
        return "the reference computes in float32"

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

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> "Row":
        return cls(**tree | {"sizes": Sizes(**tree["sizes"])})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokens", type=many(count), help="of a row of text (128,512)")
    parser.add_argument(
        "--modes", type=many(one_of(MODES)), help=f"some of {','.join(MODES)} (all of them)"
    )
    parser.add_argument(
        "--passes", type=many(one_of(PASSES)), help=f"some of {','.join(PASSES)} (both)"
    )
    parser.add_argument("--batch", type=count, help="rows of text (8)")
    parser.add_argument(
        "--trainable", type=one_of(("experts_only", "all")), default="experts_only",
        help="what AdamW updates on both sides: as the original does (experts_only), or all",
    )  # fmt: skip
    parser.add_argument("--dropout", type=share, default=0.1, help="on both sides (0.1)")
    parser.add_argument(
        "--dtype", type=one_of(("float32", "bfloat16")), default="float32",
        help="of our computation; with bfloat16 there is no reference (float32)",
    )  # fmt: skip


FULL = {"tokens": [128, 512], "modes": list(MODES), "passes": list(PASSES), "batch": 8}
SMALL = {"tokens": [8], "modes": ["hgnn", "hgnn_weighted"], "passes": ["train"], "batch": 2}
"""What the command leaves open, and with `--quick`."""


def make_rows(args: argparse.Namespace) -> list[Row]:
    """The rows to measure."""
    fixed = {name: getattr(args, name) for name in ("trainable", "dropout", "dtype", "batch")}
    fixed |= {"threads": args.threads, "sizes": QUICK if args.quick else Sizes()}
    return [
        Row(mode=mode, task=task, tokens=tokens, **fixed)
        for tokens, mode, task in itertools.product(args.tokens, args.modes, args.passes)
    ]
