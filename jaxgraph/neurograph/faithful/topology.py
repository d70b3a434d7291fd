"""The static graph: who lists whom as a source, and in which direction signals run
(spec/neurograph.md, section 3).

A node's row lists its *sources*, but the original pushes signals from the node to what its row
lists: `upstream`. `forward` is the direction that the rows mean (defect D9).
"""

import functools
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32

UNREACHED_HOPS = 8.0
"""Mean distance where no input reaches an output."""


@dataclass(frozen=True, eq=False)
class Topology:
    """A graph of n nodes: inputs first, outputs last."""

    sources: tuple[tuple[int, ...], ...]
    """Of each node, in the order drawn."""
    inputs: int
    outputs: int
    edges: Literal["upstream", "forward"] = "upstream"

    @property
    def nodes(self) -> int:
        return len(self.sources)

    @functools.cached_property
    def adjacency(self) -> Bool[np.ndarray, "n n"]:
        """Whether the row's node sends to the column's."""
        listed = np.zeros((self.nodes, self.nodes), bool)
        for node, sources in enumerate(self.sources):
            listed[node, list(sources)] = True
        return listed if self.edges == "upstream" else listed.T

    @functools.cached_property
    def static_edges(self) -> Int32[np.ndarray, "2 e"]:
        """Senders and receivers, in the order in which the original lists messages."""
        return np.stack(np.nonzero(self.adjacency)).astype(np.int32)

    @functools.cached_property
    def excluded(self) -> Bool[np.ndarray, "n n"]:
        """Whom the row's node does not radiate to: itself and those it sends to anyway."""
        return self.adjacency | np.eye(self.nodes, dtype=bool)

    @functools.cached_property
    def is_input(self) -> Bool[np.ndarray, " n"]:
        return np.arange(self.nodes) < self.inputs

    @functools.cached_property
    def is_output(self) -> Bool[np.ndarray, " n"]:
        return np.arange(self.nodes) >= self.nodes - self.outputs

    @functools.cached_property
    def connectivity(self) -> "Connectivity":
        return analyse(self)


def build_topology(
    nodes: int,
    inputs: int,
    outputs: int,
    cardinality: int,
    seed: int,
    edges: Literal["upstream", "forward"] = "upstream",
) -> Topology:
    """Draws the original's graph: about four layers, each fed by inputs and all layers before."""
    draw = np.random.RandomState(seed)
    hidden = nodes - inputs - outputs
    layer_size = max(1, hidden // 4)
    sources: list[tuple[int, ...]] = []
    for node in range(nodes):
        if node < inputs:
            sources.append(())
            continue
        if node >= nodes - outputs:
            candidates = [*range(inputs, inputs + hidden), *range(inputs)]
        else:
            before = (node - inputs) // layer_size * layer_size
            candidates = [*range(inputs), *range(inputs, inputs + before)]
        if len(candidates) >= cardinality:
            drawn = draw.choice(len(candidates), size=cardinality, replace=False)
            candidates = [candidates[place] for place in drawn]
        sources.append(tuple(candidates))
    return Topology(tuple(sources), inputs, outputs, edges)


class Connectivity(NamedTuple):
    """How inputs reach outputs along the meant direction."""

    min_hops: int
    avg_hops: float
    connected_inputs: int
    reachable_outputs: int
    direct_pairs: int
    """Inputs one hop from an output, times the outputs that each of them reaches at all."""

    @property
    def min_timesteps(self) -> int:
        """Timesteps before an active output may end a forward pass."""
        return max(int(self.avg_hops) + 2, 5)


def analyse(topology: Topology) -> Connectivity:
    """Breadth-first distances from every input to the outputs.

    `min_hops` is 0 where no input reaches any.
    """
    sends = [[] for _ in range(topology.nodes)]
    for node, sources in enumerate(topology.sources):
        for source in sources:
            sends[source].append(node)
    nearest, reached_by_any, direct = [], set(), 0
    for start in range(topology.inputs):
        hops, frontier, step = {start: 0}, [start], 0
        while frontier:
            step += 1
            frontier = sorted({t for s in frontier for t in sends[s] if t not in hops})
            hops |= dict.fromkeys(frontier, step)
        found = {node: hop for node, hop in hops.items() if topology.is_output[node] and hop}
        reached_by_any |= found.keys()
        if found:
            nearest.append(min(found.values()))
            direct += len(found) * (nearest[-1] == 1)
    mean = float(np.mean(nearest)) if nearest else UNREACHED_HOPS
    return Connectivity(
        min(nearest, default=0), mean, len(nearest), len(reached_by_any), direct
    )
