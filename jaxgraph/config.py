"""The options of a run: dataclass defaults <- YAML file <- command line.

Nothing here imports JAX, so that `--help` and a wrong option answer at once.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import tyro
import yaml

from jaxgraph import config_options, config_values, config_yaml
from jaxgraph.config_keys import check, overlay, stop, types_of
from jaxgraph.config_resume import decides, flatten, resume_conflicts
from jaxgraph.errors import UserError
from jaxgraph.fields import Count
from jaxgraph.latentwire.config import LatentWire
from jaxgraph.moe.config import Moe
from jaxgraph.neurograph.config import NeuroGraph
from jaxgraph.train.config import Parallel, Train
from jaxgraph.vae.config import Vae

__all__ = [
    "SYSTEM_CONFIGS",
    "Config",
    "flatten",
    "flatten",
    "from_dict",
    "load",
    "resume_conflicts",
    "save",
    "to_dict",
    "to_yaml",
]

SYSTEM_CONFIGS = {"moe": Moe, "vae": Vae, "neurograph": NeuroGraph, "latentwire": LatentWire}
DEFAULT_SYSTEM = "moe"

System = Literal[tuple(SYSTEM_CONFIGS)]
Task = TypeVar("Task")


@dataclass(frozen=True, kw_only=True)
class Config(Generic[Task]):
    """Trains one of the systems of jaxgraph."""

    system: System
    """What to train; decides which options `task` has. A config file says it for itself."""
    task: Task
    train: Train = Train()
    parallel: Parallel = Parallel()
    seed: Count = 0
    """Decides parameters, noise and the order of the data."""
    workdir: str
    """Folder of the run: config, metrics, checkpoints, report. Running again resumes in it."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.seed >= 2**32:
            yield "seed", f"got {self.seed}; allowed: 0 to {2**32 - 1}"
        if not self.workdir.strip():
            yield "workdir", f"got {self.workdir!r}; allowed: the path of a folder"


@dataclass(frozen=True, kw_only=True)
class CommandLine(Config[Task]):
    """Trains one of the systems. An option overrides the config file, which overrides a default."""

    config: str
    """YAML file with any of the options below."""


def load(argv: list[str]) -> Config:
    """Reads the command line and the YAML file that its `--config` names.

    Raises:
      UserError: something is wrong; the message lists all of it.
      SystemExit: `--help` was asked for and printed.
    """
    wants_help = not {"-h", "--help"}.isdisjoint(argv)
    given, problems = config_options.split([t for t in argv if t not in ("-h", "--help")])
    path = config_options.take(given, "config", str)
    root = None if path is None else config_yaml.parse(config_yaml.read_file(path), path)
    base = _defaults(_system(config_options.take(given, "system", System), root, path))
    types = types_of(base)
    reading = config_yaml.Reading(path or "", types).read(root)
    if not wants_help:
        problems += config_options.check(given, {"config": str, **types})
    stop(reading.problems + problems)
    config = overlay(base, reading.values)
    # tyro takes a tenth of a second to find that there are no options.
    if wants_help or given.keys() - {"config", "system"}:
        config = _parse(["--help"] if wants_help else config_options.to_argv(given), config, path)
    stop(check(config, reading.labels | {name: f"--{name}" for name in given}))
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Nested plain values, as they come back from the metadata of a checkpoint: tuples as lists."""
    return json.loads(json.dumps(asdict(config)))


def from_dict(tree: dict[str, Any]) -> Config:
    """The config that `to_dict` stored in a checkpoint, unless this version cannot honour it."""
    name = "stored config"
    try:
        root = config_yaml.parse(yaml.safe_dump(tree, sort_keys=False), name)
        base = _defaults(_system(None, root, name))
        reading = config_yaml.Reading(name, types_of(base)).read(root)
        # An option that is newer than the checkpoint may take its default where results cannot
        # depend on it.
        needed = [key for key in types_of(base) if decides(key) == "refused"]
        missing = [key for key in needed if key not in flatten(tree)]
        stop(reading.problems + [f"{name}: {key}: missing" for key in missing])
        config = overlay(base, reading.values)
        stop(check(config, reading.labels))
    except UserError as error:
        remedy = "the checkpoint was written by another version of jaxgraph; use that one"
        raise UserError(f"{error}\n{remedy}") from error
    return config


def to_yaml(config: Config) -> str:
    """YAML that `load` reads back to an equal config."""
    # With `allow_unicode` PyYAML writes U+0085 and U+2028 as they are and reads them as new lines.
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def save(config: Config, path: str | os.PathLike) -> None:
    """Writes the YAML so that a reader sees the old file or the new one, never a part."""
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(to_yaml(config), encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}; choose a folder you own") from error


def _defaults(system: str) -> Config:
    return Config(system=system, task=SYSTEM_CONFIGS[system](), workdir=f"runs/{system}")


def _system(option: str | None, root: yaml.Node | None, name: str | None) -> str:
    """The system to configure, which must be known before the keys below `task` are."""
    written = config_yaml.find(root, "system", System, name or "")
    if option and written and option != written:
        raise UserError(
            f"--system: got {option!r}, but {name} configures {written!r}; "
            f"allowed: {written}, or another file"
        )
    return option or written or DEFAULT_SYSTEM


def _parse(args: list[str], config: Config, path: str | None) -> Config:
    """Lays options over a config by tyro, or prints `--help` with its values as defaults."""
    names = [field.name for field in fields(Config)]
    known = {name: getattr(config, name) for name in names}
    parsed = tyro.cli(
        CommandLine[type(config.task)],
        args=args,
        default=CommandLine(config=path or "", **known),
        use_underscores=True,
        config=(tyro.conf.FlagConversionOff,),
        registry=_registry,
    )
    return Config(**{name: getattr(parsed, name) for name in names})


_registry = tyro.constructors.ConstructorRegistry()


@_registry.primitive_rule
def _spelled_as_in_yaml(
    info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Booleans and null on the command line as in YAML; tyro would want `True` and `None`."""
    if info.type is not bool and not config_values.is_optional(info.type):
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{true,false}" if info.type is bool else "VALUE|null",
        instance_from_str=lambda texts: config_values.read(texts[0], info.type),
        is_instance=lambda value: True,
        str_from_instance=lambda value: ["null" if value is None else str(value).lower()],
    )
