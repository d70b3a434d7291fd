"""Options of the losses that keep experts apart."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.fields import Count, Fraction, NonNegative, Positive, PositiveFloat


@dataclass(frozen=True)
class Adaptive:
    """Strength of the loss on weights that follows how far experts have specialised."""

    enabled: bool = False
    """Adapt each layer's strength, which starts at `weight_strength`."""
    rule: Literal["factors", "original"] = "factors"
    """`factors`: start value times all factors. `original`: the last value times all factors, as in
    the seed, which ends at a bound; and its collapse rule, which never fires (docs/parity.md)."""
    every: Positive = 500
    """Steps between two updates."""
    decay: Literal["cosine", "exponential", "linear", "step", "none"] = "cosine"
    """How strength decays with time."""
    decay_updates: Positive = 20
    """Updates over which it decays; `exponential` loses 1e-4 of itself each step instead."""
    layer_scale: Fraction = 0.8
    """Start value of a layer over that of the layer below."""
    lowest: NonNegative = 0.001
    """Smallest strength."""
    highest: NonNegative = 0.3
    """Largest strength."""
    target: Fraction = 0.95
    """Specialization, 1 - mean |cosine| between experts' weights, to be held. Random weights have
    `diagnostics/orthogonality/specialization_chance`: a target below it only ever relaxes."""
    tolerance: Fraction = 0.02
    """Below target by more: strength times 1.5; above by more: times 0.7."""
    collapse: Fraction = 0.1
    """Fall of the score over `collapse_window` that counts as a collapse."""
    collapse_window: Positive = 50
    """Updates over which a collapse is looked for."""
    plateau_window: Positive = 100
    """Updates over which a standstill of the loss is looked for, where a collapse is no alarm."""
    emergency: PositiveFloat = 2.0
    """Factor of the strength in a collapse."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.lowest > self.highest:
            yield "lowest", f"{self.lowest:g} is above highest; allowed: at most {self.highest:g}"


@dataclass(frozen=True)
class Orthogonality:
    """Losses that keep experts apart (modes `orthogonal` and `ghost`)."""

    weight: NonNegative = 0.1
    """Factor of the loss on what experts compute; 0 turns it off."""
    warmup_steps: Count = 1000
    """Steps over which the factors of all these losses rise from 0."""
    measure: Literal["updates", "outputs"] = "updates"
    """What is compared: what experts add to their input, or their outputs, input included, as in
    the seed."""
    form: Literal["cosine", "gram"] = "cosine"
    """`cosine`: squared cosines between experts. `gram`: distance of the Gram matrix from the
    identity, which grows with the width (docs/parity.md)."""
    over: Literal["token", "mean", "pool"] = "token"
    """Where experts are compared: in each token, in their mean over tokens, or on average over all
    tokens. Only `token` is independent of how a batch is cut over devices and micro-batches."""
    weight_strength: NonNegative = 0.0
    """Factor of the loss on experts' weight matrices, a layer; 0 turns it off."""
    weight_target: Literal["ffn_input", "ffn_output", "attention", "combined"] = "ffn_input"
    """Matrices compared between experts."""
    weight_form: Literal["cosine", "gram"] = "cosine"
    """As `form`."""
    adaptive: Adaptive = Adaptive()

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.form == "gram" and self.over == "token":
            yield "form", "'gram' with over 'token'; allowed: over 'mean' or 'pool', or 'cosine'"
        if self.adaptive.enabled and not self.weight_strength:
            yield "adaptive.enabled", (
                "true adapts weight_strength, which is 0; allowed: false, or a strength above 0"
            )
