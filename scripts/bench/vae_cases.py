"""What is measured of the mixture VAE: kinds, batches, and what the reference does beside us."""

import argparse
import itertools
from dataclasses import dataclass
from typing import Any

from bench.arguments import count, many, one_of, share
from jaxgraph.vae.config import Model, Objective, Separability

KINDS = ("real", "complex")
REFERENCES = {
    "original": "a pass without gradient, then the loss's; numbers to the host in each step",
    "one_pass": "the same without its second pass",
}
OBJECTIVE = Objective(beta=1.0, beta_warmup_steps=0)
"""The seed's KL is as good as free in its first steps, so that losses of two runs drift apart."""
SEPARABILITY = Separability(weight=0.025, warmup_steps=0, ramp_steps=1)
"""The seed's, on from the first step."""


@dataclass(frozen=True)
class Row:
    """Everything that both processes must know of a row; travels as JSON."""

    kind: str
    reference: str
    batch: int
    steps: int
    """Optimiser steps a call; times are of one step."""
    threads: int
    dropout: float
    inputs: int
    layers: int
    lr: float = 1e-3
    clip: float = 1.0
    seed: int = 0
    dtype: str = "float32"

    system = "vae"
    modules = ("bench.vae_ours", "bench.vae_reference")
    trains = True
    drift = 0.5  # besides dropout, latents are drawn
    unmatched = ""
    rival = None

    @property
    def name(self) -> str:
        return f"{self.kind} {self.batch} {self.reference}"

    @property
    def items(self) -> int:
        return self.batch

    @property
    def model(self) -> Model:
        return Model(
            kind=self.kind, inputs=self.inputs, num_layers=self.layers, dropout=self.dropout
        )

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> "Row":
        return cls(**tree)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batches", type=many(count), help="numbers a batch (64,1024)")
    parser.add_argument("--kinds", type=many(one_of(KINDS)), help="some of real,complex (both)")
    parser.add_argument(
        "--references", type=many(one_of(REFERENCES)),
        help="; ".join(f"{name}: {what}" for name, what in REFERENCES.items()) + " (both)",
    )  # fmt: skip
    parser.add_argument("--steps", type=count, help="a call, scanned on our side (20)")
    parser.add_argument("--dropout", type=share, default=0.12, help="on both sides (0.12)")


FULL = {"batches": [64, 1024], "kinds": list(KINDS), "references": list(REFERENCES), "steps": 20}
SMALL = {"batches": [8], "kinds": ["complex"], "references": list(REFERENCES), "steps": 20}
"""What the command leaves open, and with `--quick`."""


def make_rows(args: argparse.Namespace) -> list[Row]:
    """The rows to measure."""
    sizes = {"inputs": 32, "layers": 2} if args.quick else {"inputs": 256, "layers": 6}
    fixed = {"steps": args.steps, "threads": args.threads, "dropout": args.dropout} | sizes
    return [
        Row(kind=kind, reference=reference, batch=batch, **fixed)
        for batch, kind, reference in itertools.product(args.batches, args.kinds, args.references)
    ]
