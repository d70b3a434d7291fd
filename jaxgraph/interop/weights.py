"""Folders of weights to pass on: `params.safetensors`, and the model's options in `config.yaml`."""

import dataclasses
import pathlib
from functools import partial
from typing import Any

import jax
import yaml

from jaxgraph import config as configs
from jaxgraph.config_keys import check, stop
from jaxgraph.data.config import TextData
from jaxgraph.errors import UserError
from jaxgraph.interop import safetensors
from jaxgraph.moe.config import Model, Moe
from jaxgraph.moe.model import LanguageModel, init_params

PARAMS, CONFIG = "params.safetensors", "config.yaml"


def shapes_of(model: Model) -> Any:
    """Shapes and dtypes of a model's parameters."""
    return jax.eval_shape(partial(init_params, LanguageModel(model)), jax.random.key(0))


def save_weights(folder: pathlib.Path, params: Any, model: Model) -> None:
    """Writes the folder; its `config.yaml` starts a run of this model with `--config`.

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
    """Reads such a folder, or the safetensors file in it; the weights must fit the options."""
    file = path / PARAMS if path.is_dir() else path
    options = file.with_name(CONFIG)
    if not options.exists():
        raise UserError(f"{options} is missing; it says which model the weights of {file} are for")
    model = configs.load(["--config", str(options)]).task.model
    if not model.vocab_size:
        raise UserError(f"{options} leaves task.model.vocab_size to a tokenizer; write the number")
    return safetensors.load(file, shapes_of(model)).params, model
