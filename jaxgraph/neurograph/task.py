"""NeuroGraph as a task, in either mode: its data, its steps, its evaluation."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from jaxgraph.neurograph.config import NeuroGraph
from jaxgraph.neurograph.sources import LabelledImages
from jaxgraph.train.placement import WHOLE
from jaxgraph.train.state import TrainState
from jaxgraph.train.task import Batch, Batches, Metrics


class NeuroGraphTask:
    """See `jaxgraph.train.task.Task`."""

    # Thousands of integers: collecting them from other devices costs more than a copy.
    placement = [("", WHOLE)]

    def __init__(
        self, config: NeuroGraph, *, total_steps: int, diagnostics_every: int, seed: int
    ):
        self.config, self._seed = config, seed
        self.source = LabelledImages(config.data)
        self.inner = self._make(total_steps, diagnostics_every)
        if config.mode == "faithful":
            self.config = replace(config, faithful=self.inner.config)

    def _make(self, total_steps: int, diagnostics_every: int) -> Any:
        options = {"total_steps": total_steps, "diagnostics_every": diagnostics_every}
        if self.config.mode == "faithful":
            from jaxgraph.neurograph.faithful.task import FaithfulTask

            config = self.config.faithful
            return FaithfulTask(config, source=self.source, seed=self._seed, **options)
        from jaxgraph.neurograph.learning.task import LearningTask

        return LearningTask(self.config.learning, source=self.source, **options)

    def init(self, key: Any) -> TrainState:
        return self.inner.init(key)

    def frozen(self) -> Any:
        return None

    def train_step(
        self, state: TrainState, frozen: Any, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        return self.inner.train_step(state, frozen, batch)

    def eval_step(self, state: TrainState, frozen: Any, batch: Batch) -> Metrics:
        return self.inner.eval_step(state, frozen, batch)

    def batches(self, split: str) -> Batches:
        return self.source.batches(split, self._seed)

    def derive(self, metrics: dict[str, float], split: str) -> dict[str, float]:
        del split
        return metrics

    def describe(self) -> dict[str, str]:
        return self.source.describe() | self.inner.describe()

    def baselines(self, split: str = "validation") -> dict[str, float]:
        """Cross entropy of the training split's class shares, and of even shares."""
        train, held = (self.source.labels(name) for name in ("train", split))
        shares = np.bincount(train, minlength=self.source.classes) / len(train)
        seen = np.maximum(shares[held], 1 / (2 * len(train)))
        return {
            "class shares": float(-np.log(seen).mean()),
            "even shares": math.log(self.source.classes),
        }

    def evaluate_more(self, state: TrainState, split: str) -> dict[str, Any]:
        """See `jaxgraph.train.task.Examined`."""
        if self.config.mode == "faithful":
            return {}
        from jaxgraph.neurograph.learning.evaluation import evaluate_graph

        pixels, labels = self.source.pixels, self.source.labels
        return evaluate_graph(
            self.inner.network, state.params, pixels(split), labels(split),
            training=(pixels("train"), labels("train")),
            config=self.config.evaluation,
            temperature=self.config.learning.loss.temperature,
            ladder=self.config.data.source == "mnist" and split == "test",
        )  # fmt: skip

    def artifacts(self) -> dict[str, str]:
        return {}

    def showcase(self, state: TrainState) -> str:
        del state
        return ""
