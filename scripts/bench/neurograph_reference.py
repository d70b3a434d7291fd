"""The reference's side of a pair: the original's loops in PyTorch (tests/torch_reference)."""

import os

from bench import worker

ROW = worker.start()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from bench.neurograph_draws import draw  # noqa: E402
from bench.torch_side import BREAK, TorchSide  # noqa: E402
from jaxgraph.neurograph.faithful.topology import build_topology  # noqa: E402
from tests.torch_reference.neurograph import NeuroGraph, Options  # noqa: E402


class Reference(TorchSide):
    """Commands of `bench.pair`."""

    def __init__(self, row):
        super().__init__(row)
        self.device = "cpu"  # thousands of calls on five numbers each

    def make(self, path: str) -> None:
        """Makes indices, and writes them for the other side."""
        row, config = self.row, self.row.faithful
        drawn = draw(row)
        np.savez(path, **drawn)
        graph, dynamics, rule = config.graph, config.dynamics, config.rule
        topology = build_topology(
            graph.nodes, graph.inputs, graph.outputs, graph.cardinality, graph.seed, graph.edges
        )
        options = Options(
            row.phase_bins, row.mag_bins, dynamics.top_k, dynamics.decay, dynamics.min_strength,
            dynamics.max_timesteps, topology.connectivity.min_timesteps, graph.inputs,
            graph.outputs, rule.phase_rate, rule.mag_rate,
        )  # fmt: skip
        tensors = {name: torch.from_numpy(value) for name, value in drawn.items()}
        if os.environ.get(BREAK) == "weights":
            tensors["node_phase"] = tensors["node_phase"] + 7
        pair = lambda name: (tensors[f"{name}_phase"], tensors[f"{name}_mag"])  # noqa: E731
        sends = [np.nonzero(row)[0].tolist() for row in topology.adjacency]
        self.model = NeuroGraph(options, sends, *pair("node"), pair("code"))
        self.samples = list(zip(*pair("input"), drawn["labels"].tolist(), strict=True))

    def loss(self) -> float:
        losses = [
            self.model.loss(self.model.forward(phase, mag)[0], label)
            for phase, mag, label in self.samples
        ]
        return float(np.mean([0.0 if loss is None else float(loss) for loss in losses]))

    def warm_up(self, calls: int) -> dict:
        return {"warm_up_s": self.row.samples * sum(self.run() for _ in range(calls)) / 1000}

    def run(self) -> float:
        """Milliseconds of one of the samples of a call."""
        return worker.timed(self._train if self.row.trains else self.loss) / self.row.samples

    def _train(self) -> None:
        broken = os.environ.get(BREAK) == "step"
        start = (self.model.phase.clone(), self.model.mag.clone()) if broken else None
        for phase, mag, label in self.samples:
            self.model.train_sample(phase, mag, label)
        if start:
            self.model.phase, self.model.mag = start


if __name__ == "__main__":
    worker.serve(Reference(ROW))
