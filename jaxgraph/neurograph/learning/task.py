"""The learning mode as a task."""

import math
from typing import Any

import jax

from jaxgraph.neurograph.config.learning import Learning
from jaxgraph.neurograph.learning.network import Network
from jaxgraph.neurograph.learning.step import make_eval, make_learn, make_predict
from jaxgraph.neurograph.learning.updates import Rates, init_moments
from jaxgraph.train.optim import make_schedule
from jaxgraph.train.state import TrainState, new_state
from jaxgraph.train.task import Batch, Metrics


class LearningTask:
    """Steps of the learning mode; see `jaxgraph.train.task.Task`."""

    def __init__(
        self, config: Learning, *, source: Any, total_steps: int, diagnostics_every: int
    ):
        self.config = config
        self.network = Network(config.graph, config.cell, source.side, source.classes)
        self.schedule = make_schedule(config.optim.schedule, 1.0, total_steps)
        optim, loss = config.optim, config.loss
        self.rates = Rates(
            optim.lr, optim.b1, optim.b2, loss.temperature, loss.label_smoothing
        )
        # Where they are never due, nothing need be kept for them.
        due = diagnostics_every if diagnostics_every <= total_steps else 0
        self.learn = make_learn(self.network, config, self.schedule, diagnostics_every=due)
        self._evaluate = make_eval(self.network)
        self.predict = make_predict(self.network)

    def init(self, key: Any) -> TrainState:
        init_key, run_key = jax.random.split(key)
        params = self.network.init(init_key)
        return new_state(params, init_moments(params), {}, run_key)

    def train_step(
        self, state: TrainState, frozen: Any, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        del frozen
        return self.learn(state, batch, self.rates)

    def eval_step(self, state: TrainState, frozen: Any, batch: Batch) -> Metrics:
        del frozen
        return self._evaluate(state, batch, self.rates.temperature)

    def describe(self) -> dict[str, str]:
        cell = self.config.cell
        counts = {
            name: sum(2 * math.prod(shape) for shape in of.values())
            for name, of in self.network.shapes().items()
        }
        each = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        nodes = [math.prod(self.network.side), *(layer.nodes for layer in self.network.layers)]
        return {
            "integers": f"{sum(counts.values()):,} ({each})",
            "nodes": " -> ".join(map(str, nodes)),
            "bins": f"{cell.phase_bins} phases x {cell.mag_bins} magnitudes",
        }
