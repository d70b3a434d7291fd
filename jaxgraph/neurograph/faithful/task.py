"""The faithful mode as a task."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgraph.errors import UserError
from jaxgraph.neurograph.config.faithful import Faithful
from jaxgraph.neurograph.faithful import encodings
from jaxgraph.neurograph.faithful.accumulation import init_buffer
from jaxgraph.neurograph.faithful.adapter import init_adapter, project, quantise
from jaxgraph.neurograph.faithful.cell import Indices
from jaxgraph.neurograph.faithful.metrics import diagnose, summarise
from jaxgraph.neurograph.faithful.propagation import Dynamics
from jaxgraph.neurograph.faithful.step import Memory, Sample, Trainer
from jaxgraph.neurograph.faithful.topology import build_topology
from jaxgraph.neurograph.faithful.training import Learned
from jaxgraph.neurograph.faithful.updates import Residuals
from jaxgraph.neurograph.tables import make_tables
from jaxgraph.nn import across
from jaxgraph.train.state import TrainState, new_state
from jaxgraph.train.task import Batch, Batches, Metrics

WHITE = 255


@runtime_checkable
class Source(Protocol):
    """Images, labels and their batches."""

    inputs: int
    """Pixels of an image."""
    classes: int

    def batches(self, split: str, seed: int) -> Batches:
        """`image` ``[b, ...]`` (uint8, or floats taken as they are), `label` int32 ``[b]``, `mask`
        float32 ``[b]``."""

    def describe(self) -> dict[str, str]:
        """Facts for the log."""


def make_dynamics(config: Faithful) -> Dynamics:
    """The graph and the options of its forward passes."""
    graph, options = config.graph, config.dynamics
    topology = build_topology(
        graph.nodes, graph.inputs, graph.outputs, graph.cardinality, graph.seed, graph.edges
    )
    return Dynamics(
        topology=topology,
        tables=make_tables(config.phase_bins, config.mag_bins),
        top_k=options.top_k,
        decay=options.decay,
        min_strength=options.min_strength,
        max_timesteps=options.max_timesteps,
        min_timesteps=topology.connectivity.min_timesteps,
    )


def complete(config: Faithful, source: Source) -> Faithful:
    """The options with the sizes that they leave to the data.

    Raises:
      UserError: they name other sizes than the data have.
    """
    for key, value, found, what in (
        ("adapter.pixels", config.adapter.pixels, source.inputs, "pixels an image"),
        ("classes", config.classes, source.classes, "classes"),
    ):
        if value not in (0, found):
            raise UserError(
                f"task.faithful.{key}: got {value}, but the data have {found} {what}; "
                f"allowed: 0 or {found}"
            )
    adapter = replace(config.adapter, pixels=source.inputs)
    return replace(config, adapter=adapter, classes=source.classes)


def adapter_widths(config: Faithful) -> tuple[int, ...]:
    """Of the adapter's input, hidden layers and output; the options must be complete."""
    outputs = config.graph.inputs * config.width * 2
    return (config.adapter.pixels, *config.adapter.hidden, outputs)


class FaithfulTask:
    """See `jaxgraph.train.task.Task`.

    Parameters are `nodes` and `codes`, pairs of int32 indices, and `adapter`, floats that no step
    changes.
    """

    def __init__(
        self,
        config: Faithful,
        *,
        source: Source,
        total_steps: int,
        diagnostics_every: int,
        seed: int,
    ):
        del total_steps  # rates follow the samples seen
        self.config, self.source, self._seed = complete(config, source), source, seed
        self._every = diagnostics_every
        self.dynamics = make_dynamics(config)
        self.trainer = Trainer(config, self.dynamics)

    def init(self, key: Any) -> TrainState:
        node_key, adapter_key, run_key = jax.random.split(key, 3)
        config, tables = self.config, self.dynamics.tables
        shape = (config.graph.nodes, config.width)
        draw = lambda key, bins: jax.random.randint(key, shape, 0, bins)  # noqa: E731
        keys = jax.random.split(node_key)
        make = {
            "orthogonal": encodings.orthogonal_codes, "structured": encodings.structured_codes
        }  # fmt: skip
        phase, mag = make[config.codes](config.classes, config.width, tables)
        params = {
            "nodes": {
                "phase": draw(keys[0], tables.phase_bins), "mag": draw(keys[1], tables.mag_bins)
            },
            "codes": {"phase": jnp.asarray(phase), "mag": jnp.asarray(mag)},
            "adapter": {
                f"layer_{i}": layer
                for i, layer in enumerate(
                    init_adapter(adapter_key, adapter_widths(config), config.adapter.layer_norm)
                )
            },
        }  # fmt: skip
        opt_state = {"phase": jnp.zeros(shape), "mag": jnp.zeros(shape)}
        gathers = self.trainer.accumulation is not None
        extra = {
            "samples": jnp.zeros((), jnp.int32),
            "buffer": init_buffer(*shape) if gathers else None,
        }
        return new_state(params, opt_state, extra, run_key)

    def frozen(self) -> None:
        return None

    def train_step(
        self, state: TrainState, frozen: Any, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        """All samples of a batch in their order, each from where the one before it ended: devices
        that share a batch all do the same."""
        del frozen
        batch = across.gather(batch)
        key, balance_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        inputs = self.encode(state.params, batch, key)
        codes = self._code_signals(state.params)
        start = Memory(
            Learned(Indices(**state.params["nodes"]), Residuals(**state.opt_state)),
            state.extra["buffer"],
            state.extra["samples"],
            self.trainer.init_counts(),
        )
        keys = None if start.counts is None else jax.random.split(balance_key, len(batch["label"]))
        memory, outcomes = jax.lax.scan(
            lambda memory, sample: self.trainer.learn(memory, codes, sample),
            start,
            Sample(inputs, batch["label"], batch["mask"] > 0, keys),
        )
        nodes = memory.learned.nodes
        metrics = summarise(outcomes, batch["mask"], self.config.classes)
        if self._every:
            due = (state.step + 1) % self._every == 0
            found = diagnose(outcomes, start.learned.nodes, nodes, self.dynamics)
            metrics |= {name: jnp.where(due, value, jnp.nan) for name, value in found.items()}
        new = state.replace(
            step=state.step + 1,
            params=state.params | {"nodes": nodes._asdict()},
            opt_state=memory.learned.residuals._asdict(),
            extra={"samples": memory.samples, "buffer": memory.buffer},
        )
        return new, metrics

    def eval_step(self, state: TrainState, frozen: Any, batch: Batch) -> Metrics:
        """A sample without an active output counts as wrong, at the loss of even chances."""
        del frozen
        inputs = self.encode(state.params, batch, None)
        codes, nodes = self._code_signals(state.params), Indices(**state.params["nodes"])
        said, passed = jax.lax.map(
            lambda sample: self.trainer.read(nodes, codes, *sample), (inputs, batch["label"])
        )
        mask, rows = batch["mask"], batch["mask"].sum()
        even = math.log(self.config.classes)
        mean = lambda x: jnp.sum(mask * x) / jnp.maximum(rows, 1)  # noqa: E731
        return {
            "loss": mean(jnp.where(said.answered, said.loss, even)),
            "accuracy": mean(said.right),
            "answered": mean(said.answered),
            "timesteps": mean(passed.timesteps),
            "weight": rows,
        }

    def encode(self, params: Any, batch: Batch, key: Any | None) -> Indices:
        """Indices of the input nodes, ``[b, i, d]``; with a key, under dropout."""
        image = jnp.asarray(batch["image"])
        x = image.reshape(len(image), -1)
        x = x / WHITE if x.dtype == jnp.uint8 else x
        layers = [params["adapter"][f"layer_{i}"] for i in range(len(params["adapter"]))]
        values = project(layers, x.astype(jnp.float32), key, self.config.adapter.dropout)
        tables = self.dynamics.tables
        return quantise(values, self.config.width, tables.phase_bins, tables.mag_bins)

    def batches(self, split: str) -> Batches:
        return self.source.batches(split, self._seed)

    def derive(self, metrics: dict[str, float], split: str) -> dict[str, float]:
        del split
        return metrics

    def describe(self) -> dict[str, str]:
        graph, found = self.config.graph, self.dynamics.topology.connectivity
        integers = 2 * graph.nodes * self.config.width
        widths, adapter = adapter_widths(self.config), self.config.adapter
        floats = sum((a + 1) * b for a, b in pairwise(widths))
        floats += 2 * sum(adapter.hidden) * adapter.layer_norm
        return {
            "graph": f"{graph.nodes} nodes, {integers} integers; {found.connected_inputs} of "
            f"{graph.inputs} inputs reach an output, in {found.avg_hops:.1f} hops on average",
            "adapter": f"{floats:,} floats, drawn once and never trained",
        }

    def baselines(self, split: str = "validation") -> dict[str, float]:
        del split
        return {"even chances": float(np.log(self.config.classes))}

    def artifacts(self) -> dict[str, str]:
        return {}

    def showcase(self, state: TrainState) -> str:
        del state
        return ""

    def _code_signals(self, params: Any) -> Float[Array, "c d"]:
        return self.dynamics.tables.signal(params["codes"]["phase"], params["codes"]["mag"])
