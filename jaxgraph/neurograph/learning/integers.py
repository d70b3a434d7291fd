"""A trained graph for `jaxgraph.neurograph.export`."""

from typing import Any

import jax
import numpy as np

from jaxgraph.neurograph.export import VERSION, IntegerModel
from jaxgraph.neurograph.learning.fixed import TABLE_BITS, make_integer_tables
from jaxgraph.neurograph.learning.network import Network, radiation_down
from jaxgraph.neurograph.learning.signals import grey_indices, make_grid


def to_integer_model(network: Network, params: Any) -> IntegerModel:
    """The same graph in integers."""
    cell, whole = network.cell, make_integer_tables(network.tables)
    grid, (grey_phase, grey_mag) = make_grid(cell, network.tables), grey_indices(
        cell, network.tables
    )
    layers = [
        {
            "kind": layer.kind, "name": layer.name, "fan_in": layer.fan_in, "width": layer.width,
            "parts": layer.parts, "patch": layer.patch, "stride": layer.stride,
            "down": network.shift(layer),
        }
        for layer in network.layers
    ]  # fmt: skip
    header = {
        "version": VERSION, "layers": layers, "parts": network.parts, "table_bits": TABLE_BITS,
        "weight_bits": cell.weight_bits, "state_bits": cell.state_bits, "reach": grid.reach,
        "phase_bins": cell.phase_bins, "mag_bins": cell.mag_bins, "side": list(network.side),
        "radiation": network.graph.radiation,
        "radiation_down": cell.weight_bits + radiation_down(network.graph.radiation),
    }  # fmt: skip
    pairs = {
        f"{name}/{kind}": tuple(np.asarray(jax.device_get(x)).astype(np.int32) for x in pair)
        for name, of in params.items()
        for kind, pair in of.items()
    }
    arrays = {
        "cos": whole.cos.astype(np.int16), "sin": whole.sin.astype(np.int16),
        "mag": whole.mag.astype(np.uint16), "grey_phase": grey_phase.astype(np.int16),
        "grey_mag": grey_mag.astype(np.int16), "grid_phase": grid.phase.astype(np.int16),
        "grid_mag": grid.mag.astype(np.int16),
    }  # fmt: skip
    arrays |= {
        f"{layer.name}/sources": layer.sources for layer in network.layers
        if layer.sources is not None
    }  # fmt: skip
    return IntegerModel(header, pairs, arrays)
