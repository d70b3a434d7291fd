"""A whole run: model, objective, data, optimiser."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.data.config import ImagesData, NumbersData, StreamData
from jaxgraph.fields import NonNegative, Positive
from jaxgraph.train.config import Group, Schedule
from jaxgraph.vae.config.evaluation import Evaluation
from jaxgraph.vae.config.model import Model
from jaxgraph.vae.config.objective import Objective, Separability


@dataclass(frozen=True)
class Optim:
    """One optimiser for all parameters."""

    group: Group = Group(kind="adam", lr=1e-3, schedule=Schedule("step", period=500, gamma=0.5))
    clip: NonNegative = 1.0
    """Largest gradient norm; 0 turns clipping off."""
    accumulate: Positive = 1
    """Micro-batches a step; their sum equals one big batch."""


@dataclass(frozen=True)
class Vae:
    """Mixture VAE."""

    model: Model = Model()
    objective: Objective = Objective()
    separability: Separability = Separability()
    dataset: Literal["numbers", "images", "stream"] = "numbers"
    """What is learnt: numbers, whose options are in `data`; images, whose options are in `images`;
    or numbers that arrive as `stream` says, with held-out ones made by `data`."""
    data: NumbersData = NumbersData()
    images: ImagesData = ImagesData()
    stream: StreamData = StreamData()
    optim: Optim = Optim()
    evaluation: Evaluation = Evaluation()

    @property
    def batch_size(self) -> int:
        """Rows of a training batch."""
        sources = {"numbers": self.data, "images": self.images, "stream": self.stream}
        return sources[self.dataset].batch_size

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.batch_size % self.optim.accumulate:
            yield "optim.accumulate", (
                f"{self.optim.accumulate} does not divide the batch of {self.batch_size}; "
                "allowed: a divisor"
            )
        if self.dataset == "stream" and self.stream.bits != self.data.bits:
            yield "stream.bits", (
                f"{self.stream.bits} differs from data.bits {self.data.bits}; allowed: the same"
            )
        whole = {
            "separability.weight": self.separability.weight > 0,
            "objective.free_bits_over": self.objective.free_bits > 0
            and self.objective.free_bits_over == "batch",
        }
        if self.optim.accumulate > 1:
            for name in (name for name, used in whole.items() if used):
                yield "optim.accumulate", (
                    f"{self.optim.accumulate} with {name}, which looks at whole batches; allowed: 1"
                )
        if self.model.prior.kind == "mixture" and self.objective.free_bits:
            yield "objective.free_bits", (
                f"{self.objective.free_bits:g} with model.prior.kind 'mixture', whose KL has no "
                "dimensions; allowed: 0"
            )
