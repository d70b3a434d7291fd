"""Checkpoints of the original NeuroGraph (spec/neurograph.md, sections 4, 9, 10 and 12).

The specification names a checkpoint's entries and the node store's tables, not the keys of the
store's state: they are taken to be the names of the tables, `phase_table` and `mag_table`, each a
tensor for every node id.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxgraph.interop.rules.neurograph import adapter_from_torch, adapter_to_torch
from jaxgraph.interop.rules.neurograph_config import config_from_torch, config_to_torch
from jaxgraph.interop.torch import Path, as_numpy, as_tensor, load_pt, save_pt
from jaxgraph.neurograph.config.faithful import Faithful
from jaxgraph.problems import Problems

ENTRIES = ("config", "node_store_state", "input_adapter_state", "class_encodings")
TABLES = {"phase": "phase_table", "mag": "mag_table"}


def recognises(content: Mapping[str, Any]) -> bool:
    """Whether the content of a `.pt` file is such a checkpoint."""
    return "node_store_state" in content


def read(path: Path) -> tuple[Any, Faithful]:
    """Parameters and options.

    Raises:
      UserError: entries or nodes are missing, or have another size than the config says.
    """
    content, problems = load_pt(path), Problems(f"{path} is no checkpoint of a NeuroGraph")
    problems.compare_names("entry", expected=ENTRIES, got=set(ENTRIES) & set(content))
    problems.raise_if_any()
    config = config_from_torch(content["config"])
    classes, graph = content["class_encodings"], config.graph
    shapes = {
        "nodes": (graph.nodes, config.width),
        "codes": (len(classes), config.width),
    }
    nodes = {}
    for name, table in TABLES.items():
        rows = content["node_store_state"].get(table, {})
        problems.compare_names(
            f"{table} of node", expected=(f"n{i}" for i in range(graph.nodes)), got=rows
        )
        nodes[name] = [rows[f"n{i}"] for i in range(graph.nodes) if f"n{i}" in rows]
    problems.compare_names("class", expected=map(str, range(len(classes))), got=map(str, classes))
    problems.raise_if_any()
    codes = {
        name: [classes[label][place] for label in sorted(classes)]
        for place, name in enumerate(TABLES)
    }
    params: dict[str, Any] = {}
    for group, columns in (("nodes", nodes), ("codes", codes)):
        params[group] = {
            name: np.stack([as_numpy(row) for row in rows]).astype(np.int32)
            for name, rows in columns.items()
        }
        for name, value in params[group].items():
            bins = getattr(config, f"{name}_bins")
            if value.shape != shapes[group]:
                problems.add(f"{name} of {group} is {value.shape}; expected {shapes[group]}")
            if value.min() < 0 or value.max() >= bins:
                problems.add(f"{name} of {group} leaves its {bins} bins")
    layers = adapter_from_torch(content["input_adapter_state"])
    problems.raise_if_any()
    return params | {"adapter": {f"layer_{i}": layer for i, layer in enumerate(layers)}}, config


def write(path: Path, params: Any, config: Faithful) -> None:
    """A checkpoint before the first epoch, with the entries that the original's loader asks for."""
    layers = [params["adapter"][f"layer_{i}"] for i in range(len(params["adapter"]))]
    wide = {
        group: {name: np.asarray(params[group][name]).astype(np.int64) for name in TABLES}
        for group in ("nodes", "codes")
    }
    save_pt(path, {
        "config": config_to_torch(config),
        "current_epoch": 0,
        "training_losses": [],
        "validation_accuracies": [],
        "node_store_state": {
            table: {f"n{i}": as_tensor(row) for i, row in enumerate(wide["nodes"][name])}
            for name, table in TABLES.items()
        },
        "input_adapter_state": {
            key: as_tensor(value)
            for key, value in adapter_to_torch(layers, config.adapter.dropout > 0).items()
        },
        "class_encodings": {
            label: tuple(as_tensor(wide["codes"][name][label]) for name in TABLES)
            for label in range(len(wide["codes"]["phase"]))
        },
    })  # fmt: skip
