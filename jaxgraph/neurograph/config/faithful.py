"""Options of the original's dynamics and learning rule; defaults are its production run."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from jaxgraph.fields import Count, Fraction, NonNegative, Positive, PositiveFloat, Range


@dataclass(frozen=True)
class Graph:
    """Nodes and static edges."""

    nodes: Positive = 1000
    """All of them."""
    inputs: Positive = 200
    """Nodes that take the image, the first ones."""
    outputs: Positive = 10
    """Nodes that are read, the last ones."""
    cardinality: Positive = 6
    """Sources of every other node."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 42
    """Draws the edges."""
    edges: Literal["upstream", "forward"] = "upstream"
    """`upstream`: a node sends to those it lists as its sources, as the original's engine does;
    `forward`: the direction that the list means."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.inputs + self.outputs > self.nodes:
            yield "nodes", (
                f"{self.nodes} are fewer than inputs and outputs; "
                f"allowed: at least {self.inputs + self.outputs}"
            )


@dataclass(frozen=True)
class Dynamics:
    """Forward passes."""

    top_k: Count = 6
    """Nodes that an active node radiates to; 0 turns radiation off."""
    max_timesteps: Positive = 40
    """After these a pass ends whatever is active."""
    decay: Fraction = 0.6
    """Factor of all strengths in each timestep."""
    min_strength: NonNegative = 1.0
    """Strength below which a node is pruned, before it adapts to how many are active."""


@dataclass(frozen=True)
class Adapter:
    """From pixels to the indices of input nodes: a random network of floats that never learns."""

    pixels: Count = 0
    """Of an image; 0: as many as the data have."""
    hidden: tuple[Positive, ...] = (1024, 1024)
    """Widths of its hidden layers; empty: one matrix, the original's variant `fixed`."""
    layer_norm: bool = True
    """Normalise hidden values."""
    dropout: Fraction = 0.1
    """Share of hidden values zeroed in training, which makes training inputs random."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.dropout == 1:
            yield "dropout", "1 leaves nothing; allowed: below 1"


@dataclass(frozen=True)
class Accumulate:
    """Local credit of all active nodes, gathered over samples; turns the outputs' second update
    off."""

    steps: Count = 0
    """Samples an update; 0 leaves it off, as in the original's production run."""
    lr_scaling: Literal["sqrt", "linear", "none"] = "sqrt"
    """How the rate grows with the samples."""
    buffer: Positive = 1500
    """Nodes that may take part in one update."""
    rate: PositiveFloat = 0.01
    """Indices moved per unit of gradient."""


@dataclass(frozen=True)
class Balance:
    """Activations of the outputs evened out in training; archived in the original. An epoch is a
    batch, as there."""

    strategy: Literal["off", "quota", "round_robin", "weighted"] = "off"
    """Which output is forced in each sample: one of those below `min_activations`, with
    `force_probability`; one of the least active; any, the rarer the likelier."""
    min_activations: Count = 3
    """In an epoch; fewer are too few."""
    max_activations: Positive = 12
    """In an epoch, after which an output is silenced."""
    force_probability: Fraction = 0.25
    """Of `quota`."""


@dataclass(frozen=True)
class Rule:
    """Loss and updates."""

    phase_rate: PositiveFloat = 0.015
    """Of phases, in radians per unit of gradient."""
    mag_rate: PositiveFloat = 0.012
    """Of magnitudes, likewise."""
    temperature: PositiveFloat = 1.0
    """Divides the logits, which are cosines."""
    smoothing: Annotated[float, Range(0, 0.999)] = 0.0
    """Probability shared by the wrong classes."""
    clip: NonNegative = 0.0
    """Largest norm of a node's gradient; 0 leaves it be. A placeholder in the original."""
    warmup: Count = 0
    """Samples over which the rates rise. The original has keys for it, and no code."""
    magnitude_ends: Literal["clamp", "wrap"] = "clamp"
    """What a magnitude does at the ends of its table; phases always wrap."""
    accumulate: Accumulate = Accumulate()
    balance: Balance = Balance()


@dataclass(frozen=True)
class Faithful:
    """The original's integers, dynamics and learning rule."""

    graph: Graph = Graph()
    width: Positive = 5
    """Dimensions of a node."""
    phase_bins: Annotated[int, Range(2, 2**15)] = 512
    """Entries of the tables of phases."""
    mag_bins: Annotated[int, Range(2, 2**15)] = 1024
    """Entries of the tables of magnitudes."""
    dynamics: Dynamics = Dynamics()
    adapter: Adapter = Adapter()
    codes: Literal["orthogonal", "structured"] = "orthogonal"
    """How class codes are made."""
    classes: Count = 0
    """Class codes; 0: as many as the data have classes."""
    rule: Rule = Rule()
