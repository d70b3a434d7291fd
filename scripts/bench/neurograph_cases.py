"""What is measured of NeuroGraph's faithful mode: training and inference, sample by sample."""

import argparse
import dataclasses
from dataclasses import dataclass
from typing import Any

from bench.arguments import count, many, one_of
from jaxgraph.neurograph.config.faithful import Adapter, Faithful, Graph

WORKS = ("faithful_train", "faithful_forward")


@dataclass(frozen=True)
class Row:
    """Everything that both processes must know of a row; travels as JSON.

    Inputs are indices: the adapter of floats is no part of either side.
    """

    work: str
    samples: int
    """A call, one after the other; times are of one sample."""
    threads: int
    nodes: int
    inputs: int
    phase_bins: int
    mag_bins: int
    seed: int = 0
    dtype: str = "int32"

    system = "neurograph"
    modules = ("bench.neurograph_ours", "bench.neurograph_reference")
    drift = 0.5  # a step of a bin more or less at a gradient next to its threshold
    unmatched = ""
    rival = None
    items = 1

    @property
    def name(self) -> str:
        return f"{self.work} {self.nodes} nodes"

    @property
    def trains(self) -> bool:
        return self.work == "faithful_train"

    @property
    def config(self) -> Faithful:
        return Faithful(
            graph=Graph(nodes=self.nodes, inputs=self.inputs),
            phase_bins=self.phase_bins,
            mag_bins=self.mag_bins,
            adapter=Adapter(hidden=()),
        )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> "Row":
        return cls(**tree)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--works", type=many(one_of(WORKS)), help=f"some of {','.join(WORKS)}")
    parser.add_argument("--samples", type=count, help="a call (4)")


FULL = {"works": list(WORKS), "samples": 4, "repeats": 5}
SMALL = {"works": list(WORKS), "samples": 2}
"""What the command leaves open, and with `--quick`."""


def make_rows(args: argparse.Namespace) -> list[Row]:
    """The rows to measure: the original's production graph."""
    sizes = {"nodes": 1000, "inputs": 200, "phase_bins": 512, "mag_bins": 1024}
    if args.quick:
        sizes = {"nodes": 40, "inputs": 8, "phase_bins": 64, "mag_bins": 128}
    fixed = {"samples": args.samples, "threads": args.threads} | sizes
    return [Row(work=work, **fixed) for work in args.works]
