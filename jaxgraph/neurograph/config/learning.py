"""Options of the learning mode: the graph, its cells, the loss, the updates."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from jaxgraph.fields import Count, NonNegative, Positive, PositiveFloat, Range
from jaxgraph.train.config import Schedule

EXACT = 2**24
"""Below this a float32 holds every whole number."""


@dataclass(frozen=True)
class Graph:
    """Which nodes there are and from where their edges come."""

    kind: Literal["patches", "sparse"] = "patches"
    """`patches`: a layer is a grid of nodes, each of which sees a square patch of the grid before;
    edges at the same place of the patch share their index pair over all positions. `sparse`: each
    node draws its sources from all earlier nodes, as in the original, and owns its pairs."""
    widths: tuple[Positive, ...] = (16, 32)
    """Of each hidden layer: the dimensions of a node (`patches`), or its nodes (`sparse`)."""
    patch: Positive = 5
    """Side of a patch."""
    stride: Positive = 2
    """Grid points between neighbouring patches."""
    fan_in: Positive = 32
    """Edges into a node of a `sparse` graph; fewer where there are not so many earlier nodes."""
    seed: Count = 0
    """Draws the edges of a `sparse` graph."""
    radiation: Count = 0
    """Neighbours to which each node of the last hidden layer also sends, chosen for each sample by
    how well its signal fits their pairs; 0 turns it off. For `patches` only."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.widths:
            yield "widths", "is empty; allowed: at least one hidden layer"
        if self.radiation and self.kind == "sparse":
            yield "radiation", (
                f"{self.radiation} with kind 'sparse', whose nodes have one dimension and so no "
                "best fit; allowed: 0, or kind 'patches'"
            )


@dataclass(frozen=True)
class Cell:
    """What a node makes of its messages, and the arithmetic."""

    kind: Literal["real", "phasor"] = "real"
    """What is summed over a node's messages: the signals cos(phase) exp(sin(magnitude)), or whole
    phasors, whose sum has a phase of its own (twice to four times the work)."""
    phase_bins: Annotated[int, Range(4, 8192)] = 512
    """Entries of the tables of phases."""
    mag_bins: Annotated[int, Range(8, 8192)] = 1024
    """Entries of the tables of magnitudes."""
    threshold: Annotated[float, Range(0, 1)] = 0.2
    """The excitatory gate: a node whose sum is not above this stays silent."""
    window: NonNegative = 0.5
    """How far below the gate's threshold gradients still pass; with 0, two fifths of the nodes of
    the last layer never wake."""
    input: Literal["magnitude", "phase"] = "magnitude"
    """`magnitude`: a pixel below an eighth of white is silent, a brighter one has phase 0 and a
    magnitude from 1/e to e; `phase`: magnitude 1 and a phase from 0 (black) to pi (white)."""
    weight_bits: Annotated[int, Range(2, 12)] = 6
    """Binary digits behind the point of an edge's value."""
    state_bits: Annotated[int, Range(2, 12)] = 5
    """Binary digits behind the point of a node's signal."""


@dataclass(frozen=True)
class Loss:
    """What is minimised."""

    credit: Literal["through_graph", "local"] = "through_graph"
    """`through_graph`: the error of the read-out flows back along the edges. `local`: each layer
    has an error of its own, against fixed class codes, and nothing flows between layers."""
    temperature: PositiveFloat = 1.0
    """Divides the scores of the classes."""
    label_smoothing: Annotated[float, Range(0, 0.9)] = 0.0
    """Probability shared out among the wrong classes."""
    shift: Count = 0
    """Pixels by which training images are moved at most, at random, in both directions."""


@dataclass(frozen=True)
class Optim:
    """Steps of the indices: Adam's direction, measured in bins, rounded to whole ones."""

    lr: PositiveFloat = 0.06
    """Step in radians of the tables' angle; 512 bins turn 0.06 into 4.9 bins."""
    b1: Annotated[float, Range(0, 0.9999)] = 0.9
    """Decay of the first moment."""
    b2: Annotated[float, Range(0, 0.999999)] = 0.999
    """Decay of the second moment."""
    eps: NonNegative = 1e-12
    """Added outside the root; gradients are per bin, and small."""
    rounding: Literal["stochastic", "nearest", "unit"] = "stochastic"
    """`stochastic`: up or down so that the mean is right; `nearest`; `unit`: the original's, one
    bin where a tenth of a bin is reached."""
    schedule: Schedule = Schedule("cosine", final=0.02)


@dataclass(frozen=True)
class Evaluation:
    """What `scripts/evaluate.py` adds to the means over a split."""

    rivals: bool = True
    """Trains a logistic regression, an MLP of as many parameters and a 1-bit MLP on the same
    images, for comparison."""
    rival_epochs: Positive = 10
    """Passes of each rival over the training images."""
    bins: Positive = 10
    """Of confidence, for the calibration."""


@dataclass(frozen=True)
class Learning:
    """A graph with a pair of indices on every edge, trained by gradients."""

    graph: Graph = Graph()
    cell: Cell = Cell()
    loss: Loss = Loss()
    optim: Optim = Optim()
