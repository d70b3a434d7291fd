"""Folders of weights to pass on: `params.safetensors`, and the options they are for in
`config.yaml`."""

import pathlib
from operator import attrgetter
from typing import Any

import yaml

from jaxgraph import config as configs
from jaxgraph.config_keys import check, stop
from jaxgraph.errors import UserError
from jaxgraph.interop import safetensors
from jaxgraph.interop.exchange import EXCHANGES
from jaxgraph.runs import open_run

PARAMS, CONFIG = "params.safetensors", "config.yaml"


def save_weights(folder: pathlib.Path, params: Any, system: str, task: Any) -> None:
    """Writes the folder; `--config` of the scripts reads its `config.yaml`.

    Args:
      task: the system's options.

    Raises:
      UserError: the options are not ones that a run accepts.
    """
    stop(check(task, {}))
    options = EXCHANGES[system].options(task)
    text = yaml.safe_dump({"system": system, "task": options}, sort_keys=False)
    safetensors.save(folder / PARAMS, params, {"format": "jaxgraph", "system": system})
    (folder / CONFIG).write_text(text, encoding="utf-8")


def load_weights(path: pathlib.Path) -> tuple[Any, str, Any]:
    """Reads such a folder, the safetensors file in it, or a run's best checkpoint.

    Returns:
      Parameters, system, and the task's options.

    Raises:
      UserError: the weights do not fit the options beside them.
    """
    if (path / "checkpoints").is_dir():
        run = open_run(path)
        task = EXCHANGES[run.config.system].complete(run.config.task, run.task)
        return run.state.params, run.config.system, task
    file = path / PARAMS if path.is_dir() else path
    options = file.with_name(CONFIG)
    if not options.exists():
        raise UserError(f"{options} is missing; it says which model the weights of {file} are for")
    config = configs.load(["--config", str(options)])
    exchange = EXCHANGES[config.system]
    for key in exchange.SIZES:
        if not attrgetter(key)(config.task):
            raise UserError(f"{options} leaves task.{key} to the data; write the number")
    params = safetensors.load(file, exchange.shapes_of(config.task)).params
    return params, config.system, config.task
