"""Checkpoints of the mixture VAE."""

import dataclasses
from typing import Any

from jaxgraph.interop.rules import vae as rules
from jaxgraph.interop.rules.vae_config import config_from_torch, config_to_torch
from jaxgraph.interop.torch import Path, as_numpy, save_pt
from jaxgraph.vae.config import Vae

SIZES = ("model.inputs",)
recognises = rules.is_checkpoint


def read(path: Path) -> tuple[Any, Vae]:
    stored = rules.read_checkpoint(path)
    inputs = _first_width(stored.tensors)
    model, objective = config_from_torch(stored.config, stored.tensors, inputs)
    task = Vae(model=model, objective=objective)
    return rules.params_from_torch(model, stored.tensors), task


def write(path: Path, params: Any, task: Vae) -> None:
    cfg = config_to_torch(task.model, task.objective)
    save_pt(path, {"state_dict": rules.params_to_torch(task.model, params), "cfg": cfg})


def shapes_of(task: Vae) -> Any:
    return rules.shapes_of(task.model)


def complete(task: Vae, made: Any) -> Vae:
    return dataclasses.replace(task, model=made.model.config)


def options(task: Vae) -> dict[str, Any]:
    return {name: dataclasses.asdict(getattr(task, name)) for name in ("model", "objective")}


def _first_width(tensors: dict[str, Any]) -> int | None:
    """Width of the data: inputs of the first matrix, as the original's loader takes it."""
    shapes = (as_numpy(tensor).shape for tensor in tensors.values())
    return next((shape[1] for shape in shapes if len(shape) == 2), None)
