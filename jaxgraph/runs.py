"""Run folders: what belongs to one, and how to open it again."""

from pathlib import Path
from typing import Any, NamedTuple

from jaxgraph import config as configs
from jaxgraph.config import Config
from jaxgraph.errors import UserError

CONFIG_FILE = "config.yaml"
ARTIFACTS = ("tokenizer.json",)


class Run(NamedTuple):
    """A trained run, opened."""

    config: Config
    task: Any
    """A `jaxgraph.train.task.Task`."""
    state: Any
    """A `jaxgraph.train.state.TrainState`."""
    step: int


def claim(config: Config, *, write: bool = True) -> list[str]:
    """Writes the config into its run folder, if a run there may go on under it.

    Args:
      write: of several processes, one is enough.

    Returns:
      A line for each option that changed since the run began.

    Raises:
      UserError: the folder holds checkpoints of another model or other data; the keys are named.
    """
    folder, notes = Path(config.workdir), []
    if _steps(folder):
        old = configs.flatten(configs.to_dict(_stored_config(folder)))
        new = configs.flatten(configs.to_dict(config))
        refused, changed = configs.resume_conflicts(old, new)
        if refused:
            lines = "".join(f"  {_change(key, old, new)}\n" for key in refused)
            raise UserError(
                f"{folder} was trained under another config and cannot go on under this one:\n"
                f"{lines}restore these options, or choose another --workdir"
            )
        notes = [f"changed since the run began: {_change(key, old, new)}" for key in changed]
    if write:
        configs.save(config, folder / CONFIG_FILE)
    return notes


def open_run(folder: Path, which: str = "best", overrides: tuple[str, ...] = ()) -> Run:
    """Opens a run for evaluation or generation, on the first device.

    Args:
      which: `best` (lowest validation loss, else the newest), `latest`, or a step.
      overrides: command-line options laid over the run's config.

    Raises:
      UserError: no such run or step, or a checkpoint that cannot be read.
    """
    if not _steps(folder):
        raise UserError(f"{folder} holds no checkpoint; train it first, or name another folder")
    config = _stored_config(folder, overrides)

    import jax

    from jaxgraph.systems import make_task
    from jaxgraph.train.checkpoint import Checkpoints, as_template

    artifacts = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ARTIFACTS
        if (folder / name).exists()
    }
    task = make_task(config, artifacts)
    shapes = jax.eval_shape(task.init, jax.random.key(config.seed))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = as_template(shapes, jax.tree.map(lambda _: here, shapes))
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        step = _choose(which, checkpoints.steps, checkpoints.best_step, folder)
        state, _ = checkpoints.restore(like, step)
    return Run(config, task, state, step)


def _choose(which: str, steps: list[int], best: int | None, folder: Path) -> int:
    if which == "best" and best is not None:
        return best
    if which in ("best", "latest") and steps:
        return steps[-1]
    if which.isdigit() and int(which) in steps:
        return int(which)
    allowed = ", ".join(map(str, steps))
    raise UserError(f"--step: {folder} has no {which!r}; allowed: best, latest, {allowed}")


def _stored_config(folder: Path, overrides: tuple[str, ...] = ()) -> Config:
    path = folder / CONFIG_FILE
    if not path.exists():
        raise UserError(f"{folder} holds checkpoints but no {CONFIG_FILE}; use another workdir")
    return configs.load(["--config", str(path), *overrides])


def _steps(folder: Path) -> list[Path]:
    checkpoints = folder / "checkpoints"
    return [p for p in checkpoints.glob("*") if p.name.isdigit()] if folder.is_dir() else []


def _change(key: str, old: dict, new: dict) -> str:
    return f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}"
