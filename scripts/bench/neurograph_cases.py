"""What is measured of NeuroGraph: samples of the faithful mode, batches of the learning mode."""

import argparse
from dataclasses import dataclass
from typing import Any

from bench.arguments import count, many, one_of
from jaxgraph.neurograph.config import Cell, Learning
from jaxgraph.neurograph.config import Graph as LearningGraph
from jaxgraph.neurograph.config.faithful import Adapter, Faithful, Graph

FAITHFUL = ("faithful_train", "faithful_forward")
LEARNING = ("learning_train", "learning_predict")
CELLS = ("real", "phasor")
BATCH = {"learning_train": 128, "learning_predict": 500}
"""Images a step: those of the configs and of the evaluation."""


@dataclass(frozen=True)
class Row:
    """Everything that both processes must know of a row; travels as JSON.

    Faithful: inputs are indices, the adapter of floats is no part of either side. Learning: the
    graph of `configs/neurograph.yaml`.
    """

    work: str
    samples: int
    """Faithful: a call, one after the other, and times are of one sample. Learning: images a step,
    and times are of one step."""
    threads: int
    nodes: int = 0
    inputs: int = 0
    phase_bins: int = 512
    mag_bins: int = 1024
    cell: str = ""
    side: int = 28
    """Of an image in pixels."""
    widths: tuple[int, ...] = (16, 40)
    seed: int = 0
    dtype: str = "int32"

    system = "neurograph"
    drift = 0.5  # a step of a bin more or less at a gradient next to its threshold
    rival = None

    @property
    def modules(self) -> tuple[str, str]:
        ours = "bench.neurograph_learning" if self.work in LEARNING else "bench.neurograph_ours"
        return (ours, "bench.neurograph_reference")

    @property
    def name(self) -> str:
        kind = f"{self.cell} {self.samples}" if self.cell else f"{self.nodes} nodes"
        return f"{self.work} {kind}"

    @property
    def unmatched(self) -> str:
        return "the original has no learning mode" if self.work in LEARNING else ""

    @property
    def items(self) -> int:
        return self.samples if self.work in LEARNING else 1

    @property
    def trains(self) -> bool:
        return self.work.endswith("train")

    @property
    def faithful(self) -> Faithful:
        return Faithful(
            graph=Graph(nodes=self.nodes, inputs=self.inputs),
            phase_bins=self.phase_bins,
            mag_bins=self.mag_bins,
            adapter=Adapter(hidden=()),
        )

    @property
    def learning(self) -> Learning:
        cell = Cell(kind=self.cell, phase_bins=self.phase_bins, mag_bins=self.mag_bins)
        return Learning(graph=LearningGraph(widths=self.widths), cell=cell)

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> "Row":
        return cls(**tree | {"widths": tuple(tree["widths"])})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    works = FAITHFUL + LEARNING
    parser.add_argument("--works", type=many(one_of(works)), help=f"some of {','.join(works)}")
    parser.add_argument("--samples", type=count, help="a call of the faithful mode (4)")
    parser.add_argument(
        "--cells", type=many(one_of(CELLS)), help=f"of the learning mode, some of {','.join(CELLS)}"
    )


FULL = {"works": [*FAITHFUL, *LEARNING], "samples": 4, "cells": list(CELLS), "repeats": 5}
SMALL = {"works": [*FAITHFUL, *LEARNING], "samples": 2, "cells": ["real"]}
"""What the command leaves open, and with `--quick`."""


def make_rows(args: argparse.Namespace) -> list[Row]:
    """The rows to measure: the original's production graph, and the configs' learning graph."""
    graph = {"nodes": 1000, "inputs": 200}
    layers, batch = {}, BATCH
    if args.quick:
        graph = {"nodes": 40, "inputs": 8, "phase_bins": 64, "mag_bins": 128}
        layers, batch = {"side": 8, "widths": (2,)}, dict.fromkeys(LEARNING, 8)
    rows = []
    for work in args.works:
        if work in FAITHFUL:
            rows.append(Row(work, args.samples, args.threads, **graph))
        else:
            rows += [
                Row(work, batch[work], args.threads, cell=cell, **layers) for cell in args.cells
            ]
    return rows
