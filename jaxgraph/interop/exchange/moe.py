"""Checkpoints of the geometric MoE."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxgraph.data.config import TextData
from jaxgraph.interop.rules.moe import RULES, read_checkpoint
from jaxgraph.interop.rules.moe import shapes_of as model_shapes
from jaxgraph.interop.rules.moe_config import config_to_torch
from jaxgraph.interop.torch import Path, save_pt, to_jax, to_torch
from jaxgraph.moe.config import Moe

SIZES = ("model.vocab_size",)


def recognises(content: Mapping[str, Any]) -> bool:
    return "model_state_dict" in content


def read(path: Path) -> tuple[Any, Moe]:
    stored = read_checkpoint(path)
    model = stored.model
    params = to_jax(stored.tensors, model_shapes(model), RULES)
    data = TextData(seq_len=min(TextData().seq_len, model.max_seq_len))
    return params, Moe(model=model, data=data)


def write(path: Path, params: Any, task: Moe) -> None:
    content = {"model_state_dict": to_torch(params, RULES), "config": config_to_torch(task.model)}
    # What the original's loader asks for besides.
    save_pt(path, content | {"epoch": 0, "step": 0, "best_eval_loss": float("inf")})


def shapes_of(task: Moe) -> Any:
    return model_shapes(task.model)


def complete(task: Moe, made: Any) -> Moe:
    return dataclasses.replace(task, model=made.model.config)


def options(task: Moe) -> dict[str, Any]:
    return {"model": dataclasses.asdict(task.model), "data": {"seq_len": task.data.seq_len}}
