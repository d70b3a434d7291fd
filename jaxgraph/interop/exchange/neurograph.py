"""Checkpoints of the original NeuroGraph (spec/neurograph.md, sections 4, 9, 10 and 12).

The specification names a checkpoint's entries and the node store's tables, not the keys of the
store's state: they are taken to be the names of the tables, `phase_table` and `mag_table`, each a
tensor for every node id.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from jaxgraph.errors import UserError
from jaxgraph.interop.rules.neurograph import adapter_from_torch, adapter_to_torch
from jaxgraph.interop.rules.neurograph_config import config_from_torch, config_to_torch
from jaxgraph.interop.torch import Path, as_numpy, as_tensor, load_pt, save_pt
from jaxgraph.neurograph.config import Faithful, NeuroGraph
from jaxgraph.neurograph.faithful.adapter import init_adapter
from jaxgraph.neurograph.faithful.task import adapter_widths
from jaxgraph.problems import Problems

SIZES = ("faithful.adapter.pixels", "faithful.classes")
ENTRIES = ("config", "node_store_state", "input_adapter_state", "class_encodings")
TABLES = {"phase": "phase_table", "mag": "mag_table"}


def recognises(content: Mapping[str, Any]) -> bool:
    """Whether the content of a `.pt` file is such a checkpoint."""
    return "node_store_state" in content


def read(path: Path) -> tuple[Any, NeuroGraph]:
    """Parameters and options, of the faithful mode.

    Raises:
      UserError: entries or nodes are missing, or have another size than the config says.
    """
    content, problems = load_pt(path), Problems(f"{path} is no checkpoint of a NeuroGraph")
    problems.compare_names("entry", expected=ENTRIES, got=set(ENTRIES) & set(content))
    problems.raise_if_any()
    for entry in ENTRIES:
        if not isinstance(content[entry], Mapping) or not content[entry]:
            problems.add(f"{entry} is empty, or no mapping")
    problems.raise_if_any()
    config = config_from_torch(content["config"])
    classes = {str(label): pair for label, pair in content["class_encodings"].items()}
    nodes = {}
    for name, table in TABLES.items():
        rows = content["node_store_state"].get(table, {})
        ids = [f"n{i}" for i in range(config.graph.nodes)]
        problems.compare_names(f"{table} of node", expected=ids, got=rows)
        nodes[name] = [rows[node] for node in ids if node in rows]
    labels = [str(i) for i in range(config.classes or len(classes))]
    problems.compare_names("class", expected=labels, got=classes)
    problems.raise_if_any()
    layers = adapter_from_torch(content["input_adapter_state"])
    params = {
        "nodes": {name: _stacked(rows) for name, rows in nodes.items()},
        "codes": {
            name: _stacked(classes[label][place] for label in labels)
            for place, name in enumerate(TABLES)
        },
        "adapter": {f"layer_{i}": layer for i, layer in enumerate(layers)},
    }
    adapter = dataclasses.replace(
        config.adapter, pixels=config.adapter.pixels or len(layers[0]["kernel"])
    )
    config = dataclasses.replace(config, adapter=adapter, classes=len(labels))
    task = NeuroGraph(mode="faithful", faithful=config)
    _compare(problems, params, task)
    problems.raise_if_any()
    return params, task


def write(path: Path, params: Any, task: NeuroGraph) -> None:
    """A checkpoint before the first epoch, with the entries that the original's loader asks for.

    Raises:
      UserError: the original cannot compute the options.
    """
    config = _faithful(task)
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


def shapes_of(task: NeuroGraph) -> Any:
    config = _faithful(task)
    pair = lambda rows: dict.fromkeys(  # noqa: E731
        TABLES, jax.ShapeDtypeStruct((rows, config.width), jnp.int32)
    )
    make = partial(
        init_adapter, widths=adapter_widths(config), layer_norm=config.adapter.layer_norm
    )
    layers = jax.eval_shape(make, jax.random.key(0))
    return {
        "nodes": pair(config.graph.nodes),
        "codes": pair(config.classes),
        "adapter": {f"layer_{i}": layer for i, layer in enumerate(layers)},
    }


def complete(task: NeuroGraph, made: Any) -> NeuroGraph:
    _faithful(task)
    return made.config


def options(task: NeuroGraph) -> dict[str, Any]:
    return {"mode": task.mode, "faithful": dataclasses.asdict(task.faithful)}


def _faithful(task: NeuroGraph) -> Faithful:
    if task.mode != "faithful":
        raise UserError(
            f"task.mode: the original has nothing like {task.mode!r}; allowed: faithful "
            "(`convert.py neurograph --integer` exports the learning mode)"
        )
    return task.faithful


def _stacked(rows: Any) -> np.ndarray:
    rows = [as_numpy(row) for row in rows]
    if len({row.shape for row in rows}) > 1:
        raise UserError(f"rows of indices differ in shape: {sorted({row.shape for row in rows})}")
    return np.stack(rows).astype(np.int32)


def _compare(problems: Problems, params: Any, task: NeuroGraph) -> None:
    """Adds what has another shape than the options say, and indices outside their tables."""
    found, expected = (flatten_dict(tree, sep=".") for tree in (params, shapes_of(task)))
    problems.compare_names("tensor", expected=expected, got=found)
    for name in found.keys() & expected.keys():
        got, wanted = found[name].shape, expected[name].shape
        if got != wanted:
            problems.add(f"{name} has shape {list(got)}; the config says {list(wanted)}")
    for group in ("nodes", "codes"):
        for name, value in params[group].items():
            bins = getattr(task.faithful, f"{name}_bins")
            if value.min() < 0 or value.max() >= bins:
                problems.add(f"{group}.{name} leaves its {bins} bins")
