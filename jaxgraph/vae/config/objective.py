"""What training minimises: the weight of the KL, free bits, separability."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.fields import Count, NonNegative, Positive, PositiveFloat


@dataclass(frozen=True)
class Controller:
    """Sets beta so that the KL meets a target (ControlVAE)."""

    target: NonNegative = 0.0
    """KL in nats to hold; 0 turns the controller off, and beta follows its schedule."""
    proportional: PositiveFloat = 0.01
    """Largest beta that a KL far above the target causes at once."""
    integral: PositiveFloat = 1e-4
    """Growth of beta per step and nat above the target."""
    lowest: NonNegative = 0.0
    """Lower bound of beta."""
    highest: PositiveFloat = 1.0
    """Upper bound of beta."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.lowest > self.highest:
            yield "lowest", f"{self.lowest:g} is above highest; allowed: at most {self.highest:g}"


@dataclass(frozen=True)
class Objective:
    """Negative log-likelihood plus beta times KL."""

    beta: NonNegative = 1.0
    """Weight of the KL after its warm-up."""
    beta_warmup_steps: Count = 20000
    """Steps over which beta rises from 0."""
    free_bits: NonNegative = 0.0
    """Nats of KL per latent dimension that cost nothing to use, and save nothing to give up."""
    free_bits_over: Literal["batch", "sample"] = "batch"
    """Where the floor applies: to the batch's mean per dimension, as published, or in each sample,
    as in the seed."""
    controller: Controller = Controller()

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.controller.target and self.free_bits:
            yield "free_bits", "both hold the KL up; allowed with controller.target: 0"


@dataclass(frozen=True)
class Separability:
    """Rewards classes that lie apart in the latent space: their Fisher ratio times a weight."""

    weight: NonNegative = 0.0
    """Factor of the score after its ramp; 0 only reports the score."""
    warmup_steps: Count = 500
    """Steps before the ramp."""
    ramp_steps: Positive = 3000
    """Steps over which the factor rises from 0."""
    eps: PositiveFloat = 1e-6
    """Added to the scatter within classes."""
    min_per_class: Positive = 2
    """The score is 0 in a batch where a class that is present has fewer rows."""
    gradient: bool = True
    """Score the latents of the loss's own pass. `false`: the seed's score of a second pass, which
    no gradient reaches (docs/parity.md, V1)."""
