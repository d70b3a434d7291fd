"""The whole graph: parameters, their values, a pass over images."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from jaxgraph.errors import UserError
from jaxgraph.neurograph.config.learning import EXACT, Cell, Graph
from jaxgraph.neurograph.learning.fixed import Pairs, differentiable_phasors
from jaxgraph.neurograph.learning.messages import sum_messages
from jaxgraph.neurograph.learning.radiation import radiate
from jaxgraph.neurograph.learning.signals import grey_signals, make_gate
from jaxgraph.neurograph.learning.topology import make_layers
from jaxgraph.neurograph.tables import make_tables

RADIATION = "radiation"
INDEX = jnp.int16


class Pass(NamedTuple):
    """What a pass over images found."""

    scores: Float[Array, "b k"]
    """Of the classes, whole numbers; the prediction is the first of the largest."""
    states: list[Any]
    """Signals of each hidden layer, in units of the state, flat: [b, d]."""
    sent: Any
    """Who radiated to whom, [b, n, n]; None without radiation."""


class Network:
    """A graph for images of one size. Holds constants only; parameters are arguments.

    Parameters are a dict of layers, each a dict of `Pairs` of int16: `edge` ``[f, n]``, and
    `own` ``[n]``, the pair that a node adds to its messages as the original's nodes do.
    """

    def __init__(self, graph: Graph, cell: Cell, side: tuple[int, int], classes: int):
        self.graph, self.cell, self.side, self.classes = graph, cell, side, classes
        self.tables = make_tables(cell.phase_bins, cell.mag_bins)
        self.parts = 2 if cell.kind == "phasor" else 1
        self.greys = grey_signals(cell, self.tables).astype(np.float32)
        self.layers = make_layers(
            graph, side, classes, input_parts=self.greys.shape[1], parts=self.parts
        )
        self.gate = make_gate(cell, self.tables)
        self._check_range()

    def _check_range(self) -> None:
        cell = self.cell
        largest = (np.e * 2**cell.weight_bits + 1) * (np.e * 2**cell.state_bits + 1)
        terms = {layer.name: layer.fan_in for layer in self.layers}
        if self.graph.radiation:
            last = self.layers[-2]
            terms[RADIATION] = max(last.nodes // last.width, last.width) + 1
        for name, count in terms.items():
            # The node's own pair and the half that rounds come on top.
            bound = (count + math.sqrt(count) + 1) * largest
            if bound >= EXACT:
                raise UserError(
                    f"task.learning.cell: sums of {name} over {count} messages with "
                    f"{cell.weight_bits} weight bits and {cell.state_bits} state bits "
                    f"reach {bound:.3g}; allowed: below 2^24, where float32 is exact; take fewer "
                    "bits or edges"
                )

    def shift(self, layer: Any) -> int:
        """Binary digits from the sums of a layer down to the units of its state."""
        return self.cell.weight_bits + layer.down

    def shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Shape of each set of pairs."""
        found = {}
        for layer in self.layers:
            found[layer.name] = {"edge": (layer.fan_in, layer.width)}
            if layer.kind != "dense":
                found[layer.name]["own"] = (layer.width,)
        if self.graph.radiation:
            last = self.layers[-2]
            found[RADIATION] = {"own": (last.side[0] * last.side[1], last.width)}
        return found

    def init(self, key: Any) -> dict[str, dict[str, Pairs]]:
        """Indices drawn evenly."""
        bins = Pairs(self.cell.phase_bins, self.cell.mag_bins)
        shapes = {(name, kind): s for name, of in self.shapes().items() for kind, s in of.items()}
        keys = iter(jax.random.split(key, 2 * len(shapes)))
        params: dict[str, dict[str, Pairs]] = {name: {} for name, _ in shapes}
        for (name, kind), shape in shapes.items():
            params[name][kind] = Pairs(
                *(jax.random.randint(next(keys), shape, 0, n, jnp.int32).astype(INDEX)
                  for n in bins)
            )  # fmt: skip
        return params

    def values(self, params: Any, offsets: Any) -> dict[str, dict[str, Array]]:
        """Fixed-point values of all pairs, differentiable by `offsets`, a tree of zeros."""
        return jax.tree.map(
            lambda pair, zero: differentiable_phasors(
                self.tables, pair, zero, self.cell.weight_bits, self.parts
            ),
            params,
            offsets,
            is_leaf=lambda x: isinstance(x, Pairs),
        )

    def run(
        self, values: Any, images: UInt8[Array, "b h w"], *, detach: bool = False
    ) -> Pass:
        """A pass over a batch.

        Args:
          values: from `values`.
          detach: whether layers are cut off from one another for gradients.
        """
        cut = jax.lax.stop_gradient if detach else (lambda x: x)
        signals = jnp.asarray(self.greys)[images.astype(jnp.int32)]
        known = [signals.reshape(len(images), -1, signals.shape[-1])]
        states, sent = [], None
        for layer in self.layers[:-1]:
            arriving = signals if layer.kind == "patches" else _join(known, layer.parts)
            signals = self._layer(layer, values[layer.name], cut(arriving))
            if self.graph.radiation and layer is self.layers[-2]:
                signals, sent = self._radiate(layer, values, signals)
            flat = signals.reshape(len(images), -1, self.parts, layer.width)
            known.append(jnp.moveaxis(flat, 2, 3).reshape(len(images), -1, self.parts))
            states.append(known[-1].reshape(len(images), -1))
        readout = self.layers[-1]
        arriving = cut(_join(known[-1:], self.parts))
        scores = sum_messages(readout, values[readout.name]["edge"], arriving)
        return Pass(scores[:, : self.classes], states, sent)

    def _layer(self, layer: Any, values: Any, arriving: Array) -> Array:
        sums = sum_messages(layer, values["edge"], arriving) / 2.0 ** self.shift(layer)
        return self.gate(sums + self._own(values["own"], sums.ndim))

    def _own(self, own: Array, axes: int) -> Array:
        """A node's own message, in units of the state."""
        flat = own.reshape(-1) * 2.0 ** (self.cell.state_bits - self.cell.weight_bits)
        return flat.reshape((1,) * (axes - 1) + (-1,))

    def _radiate(self, layer: Any, values: Any, signals: Array) -> tuple[Array, Array]:
        sums, sent = radiate(signals, values[RADIATION]["own"], self.graph.radiation)
        down = self.cell.weight_bits + radiation_down(self.graph.radiation)
        return self.gate(signals + sums / 2.0**down), sent


def radiation_down(top_k: int) -> int:
    """Binary digits by which radiated sums shrink: as many messages as `top_k` arrive on average,
    and like those over edges they shrink by the root of their number."""
    return round(math.log2(math.sqrt(max(top_k, 1))))


def _join(known: list[Array], parts: int) -> Array:
    """Signals [b, n, parts] of several layers side by side, all real parts first; layers without an
    imaginary part get zeros where others have one."""
    padded = [jnp.pad(x, ((0, 0), (0, 0), (0, parts - x.shape[-1]))) for x in known]
    joined = jnp.concatenate(padded, axis=1)
    return jnp.moveaxis(joined, 2, 1).reshape(len(joined), -1)
