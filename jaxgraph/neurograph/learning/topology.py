"""The layers of a graph: who sends to whom, and how many edges that takes."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from jaxgraph.errors import UserError
from jaxgraph.neurograph.config.learning import Graph


class Layer(NamedTuple):
    """One layer of nodes and the edges into it."""

    kind: str
    """`patches`, `sparse` or `dense`."""
    name: str
    fan_in: int
    """Edges into each dimension of a node."""
    width: int
    """Dimensions of a node (`patches`), or nodes."""
    side: tuple[int, int]
    """Of the grid of nodes; (1, 1) for nodes in no grid."""
    parts: int
    """Of the signals that arrive: 1 if they have no imaginary part, else 2."""
    patch: int = 1
    stride: int = 1
    sources: Int32[np.ndarray, "f n"] | None = None
    """Of each edge of a `sparse` layer: the place of its source among all earlier nodes."""

    @property
    def down(self) -> int:
        """Binary digits by which sums shrink: the root of the fan-in."""
        return round(math.log2(math.sqrt(self.fan_in)))

    @property
    def nodes(self) -> int:
        """Signals that the layer emits."""
        return self.width * self.side[0] * self.side[1]


def make_layers(
    graph: Graph, side: tuple[int, int], classes: int, *, input_parts: int, parts: int
) -> list[Layer]:
    """The hidden layers and, last, the read-out.

    Raises:
      UserError: the images are too small for the patches.
    """
    make = _patches if graph.kind == "patches" else _sparse
    hidden = make(graph, side, input_parts, parts)
    last = hidden[-1]
    return [*hidden, Layer("dense", "readout", last.nodes, classes, (1, 1), parts)]


def _patches(graph: Graph, side: tuple[int, int], input_parts: int, parts: int) -> list[Layer]:
    layers, depth = [], 1
    for i, width in enumerate(graph.widths):
        arriving = input_parts if i == 0 else parts
        if min(side) < graph.patch:
            raise UserError(
                f"task.learning.graph.patch: got {graph.patch}, but layer {i} sees a grid of "
                f"{side[0]} x {side[1]}; allowed: at most {min(side)}, or fewer layers"
            )
        side = tuple((length - graph.patch) // graph.stride + 1 for length in side)
        layers.append(Layer(
            "patches", f"layer_{i}", graph.patch**2 * depth, width, side, arriving, graph.patch,
            graph.stride,
        ))  # fmt: skip
        depth = width
    return layers


def _sparse(graph: Graph, side: tuple[int, int], input_parts: int, parts: int) -> list[Layer]:
    """As in the original, sources are drawn among all earlier nodes; a node has each at most
    once. Where pixels have no imaginary part but nodes have one, pixels carry a zero."""
    layers, known = [], side[0] * side[1]
    arriving = input_parts
    for i, width in enumerate(graph.widths):
        fan_in = min(graph.fan_in, known)
        raw = np.random.Philox(key=np.array([graph.seed, i], np.uint64)).random_raw(width * known)
        sources = np.argsort(raw.reshape(width, known), axis=1, kind="stable")[:, :fan_in]
        layers.append(Layer(
            "sparse", f"layer_{i}", fan_in, width, (1, 1), arriving,
            sources=np.sort(sources, axis=1).T.astype(np.int32),
        ))  # fmt: skip
        known, arriving = known + width, parts
    return layers
