"""Folders of weights to pass on: `params.safetensors`, and the model's options in `config.yaml`."""

import dataclasses
import pathlib
from typing import Any

import yaml

from jaxgraph import config as configs
from jaxgraph.config_keys import check, stop
from jaxgraph.data.config import TextData
from jaxgraph.errors import UserError
from jaxgraph.interop import safetensors
from jaxgraph.interop.rules.moe import shapes_of
from jaxgraph.moe.config import Model, Moe
from jaxgraph.runs import open_run

PARAMS, CONFIG = "params.safetensors", "config.yaml"


def save_weights(folder: pathlib.Path, params: Any, model: Model) -> None:
    """Writes the folder; `--config` of the scripts reads its `config.yaml`.

    Raises:
      UserError: the options are not ones that a run accepts.
    """
    data = TextData(seq_len=min(TextData().seq_len, model.max_seq_len))
    stop(check(Moe(model=model, data=data), {}))
    task = {"model": dataclasses.asdict(model), "data": {"seq_len": data.seq_len}}
    text = yaml.safe_dump({"system": "moe", "task": task}, sort_keys=False)
    safetensors.save(folder / PARAMS, params, {"format": "jaxgraph", "system": "moe"})
    (folder / CONFIG).write_text(text, encoding="utf-8")


def load_weights(path: pathlib.Path) -> tuple[Any, Model]:
    """Reads such a folder, the safetensors file in it, or a run's best checkpoint.

    Raises:
      UserError: the weights do not fit the options beside them.
    """
    if (path / "checkpoints").is_dir():
        run = open_run(path)
        return run.state.params, run.task.model.config
    file = path / PARAMS if path.is_dir() else path
    options = file.with_name(CONFIG)
    if not options.exists():
        raise UserError(f"{options} is missing; it says which model the weights of {file} are for")
    model = configs.load(["--config", str(options)]).task.model
    if not model.vocab_size:
        raise UserError(f"{options} leaves task.model.vocab_size to a tokenizer; write the number")
    return safetensors.load(file, shapes_of(model)).params, model
