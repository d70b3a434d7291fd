"""The one loop: restore, then step, log, evaluate, save. It knows tasks and no model."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgraph.errors import UserError
from jaxgraph.train import parallel as devices
from jaxgraph.train.checkpoint import Checkpoints, as_template
from jaxgraph.train.config import Parallel, Train
from jaxgraph.train.evaluate import evaluate
from jaxgraph.train.metrics import MetricLog
from jaxgraph.train.progress import Display, make_display
from jaxgraph.train.signals import StopSignal
from jaxgraph.train.state import TrainState, count_params
from jaxgraph.train.step import scan_steps
from jaxgraph.train.task import Batch, Task


class Result(NamedTuple):
    """How a run ended."""

    state: TrainState
    metrics: dict[str, float]
    """Last evaluation; empty if the run was stopped before one."""
    history: list[dict[str, float]]
    """Latest log rows, at most `train.history`."""
    stopped: str | None
    """Name of the signal that ended it early."""


def fit(
    task: Task,
    config: Train,
    workdir: Path,
    *,
    parallel: Parallel = Parallel(),  # noqa: B008 (frozen)
    seed: int = 0,
    resolved: dict | None = None,
) -> Result:
    """Trains `task` up to `config.steps`, going on from the newest checkpoint in `workdir`.

    Stopping at any step and calling again gives the same numbers as never having stopped, bit for
    bit: a batch depends on its index, randomness on the step.

    Args:
      workdir: gets `metrics.jsonl`, TensorBoard events, `checkpoints/` and the task's artifacts.
      resolved: the whole config, kept in every checkpoint.

    Raises:
      UserError: batch and devices do not fit, or the loss is not finite under `nonfinite: abort`.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    mesh = devices.make_mesh(parallel)
    shapes = jax.eval_shape(task.init, jax.random.key(seed))
    sharding = devices.state_sharding(mesh, shapes)
    for name, text in task.artifacts().items():
        (workdir / name).write_text(text, encoding="utf-8")

    with Checkpoints(
        workdir / "checkpoints",
        keep_latest=config.keep_latest,
        keep_best=config.keep_best,
        config=resolved,
    ) as checkpoints, StopSignal() as stop:
        restored = checkpoints.restore(as_template(shapes, sharding))
        if restored is None:
            state = jax.jit(task.init, out_shardings=sharding)(jax.random.key(seed))
            position = {"next_batch": 0, "skipped": 0}
        else:
            state, position = restored
        run = _Run(task, config, mesh, sharding, state, position)
        with MetricLog(
            workdir, buffer=config.log_buffer, history=config.history, start=run.step
        ) as log:
            display = make_display(config.progress, run.step, config.steps)
            for line in _opening(task, mesh, state, restored is not None, run.step):
                display.note(line)
            try:
                metrics = run.train(log, display, checkpoints, stop)
            finally:
                display.close()
                run.close()
            return Result(run.state, metrics, list(log.history), stop.received)


class _Run:
    """State of one call of `fit`."""

    def __init__(self, task, config, mesh, sharding, state, position):
        self.task, self.config, self.state = task, config, state
        self.step = int(state.step)
        self.skipped = position["skipped"]
        self._pending = None
        self._logged_at = (time.monotonic(), self.step)
        self._frozen = task.frozen()
        self._validation = task.batches("validation")
        calls = config.steps_per_call
        step = task.train_step if calls == 1 else scan_steps(task.train_step, calls)
        batches = task.batches("train")
        rows = len(jax.tree.leaves(batches[0])[0])
        where = devices.batch_sharding(mesh, rows, stacked=calls > 1)
        self._source = iter(batches[position["next_batch"]:])
        self._batches = _to_devices(self._source, calls, where)
        self._train_step = jax.jit(
            step, donate_argnums=0,
            in_shardings=(sharding, None, where), out_shardings=(sharding, None),
        )
        self._eval_step = jax.jit(
            task.eval_step, in_shardings=(sharding, None, devices.batch_sharding(mesh, rows))
        )

    def train(
        self, log: MetricLog, display: Display, checkpoints: Checkpoints, stop: StopSignal
    ) -> dict[str, float]:
        config, metrics = self.config, {}
        while self.step < config.steps and not stop.received:
            self.state, values = self._train_step(self.state, self._frozen, next(self._batches))
            self.step += config.steps_per_call
            # The values of the step before: reading them does not wait for the one just begun.
            self._report(log, display)
            self._pending = (self.step, values)
            last = self.step >= config.steps
            loss = None
            if self.step % config.eval_every == 0 or last:
                self._report(log, display)
                metrics = self._evaluate(log, display)
                loss = metrics["loss"]
            if self.step % config.save_every == 0 or last or stop.received:
                self._report(log, display)
                log.flush()
                position = {"next_batch": self.step, "skipped": self.skipped}
                checkpoints.save(self.step, self.state, position, loss)
        if stop.received:
            display.note(f"{stop.received}: saved at step {self.step}; the same command goes on")
        elif not metrics:
            metrics = self._evaluate(log, display)
        return metrics

    def close(self) -> None:
        close = getattr(self._source, "close", None)
        if close:
            close()

    def _report(self, log: MetricLog, display: Display) -> None:
        if self._pending is None:
            return
        end, values = self._pending
        self._pending = None
        values = jax.device_get(values)
        for i in range(self.config.steps_per_call):
            row = {k: float(v[i] if np.ndim(v) else v) for k, v in values.items()}
            self._report_step(end - self.config.steps_per_call + i + 1, row, log, display)

    def _report_step(
        self, step: int, row: dict[str, float], log: MetricLog, display: Display
    ) -> None:
        if step % self.config.diagnostics_every:
            row = {k: v for k, v in row.items() if not k.startswith("diagnostics/")}
        if row.pop("skipped"):
            self.skipped += 1
            bad = [name for name, value in row.items() if not math.isfinite(value)]
            if self.config.nonfinite == "abort":
                raise UserError(
                    f"step {step}: {', '.join(bad)} not finite; the state is left as it was before "
                    "the step and the last checkpoint is good. Lower the learning rate or the "
                    "clipping norm, or set train.nonfinite to skip"
                )
            display.note(f"step {step} skipped ({self.skipped} so far): {', '.join(bad)} not finite")
        logged = step % self.config.log_every == 0 or step == self.config.steps
        if logged:
            now, (then, at) = time.monotonic(), self._logged_at
            rate = (step - at) / max(now - then, 1e-9)
            self._logged_at = (now, step)
            row |= {"steps_per_second": rate, "skipped_steps": self.skipped}
            if "items" in row:
                row["items_per_second"] = rate * row["items"]
            log.add(step, {f"train/{name}": value for name, value in row.items()})
            self._text = f"loss {row['loss']:.4f}  {rate:.2f} steps/s"
            if "items" in row:
                self._text += f"  {row['items_per_second']:,.0f} items/s"
        display.update(step, getattr(self, "_text", ""), logged=logged)

    def _evaluate(self, log: MetricLog, display: Display) -> dict[str, float]:
        begun = time.monotonic()
        found = evaluate(
            self._eval_step, self.state, self._frozen, self._validation, self.config.eval_batches
        )
        metrics = self.task.derive(found, "validation")
        log.add(self.step, {f"validation/{name}": value for name, value in metrics.items()})
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        seconds = time.monotonic() - begun
        display.note(f"step {self.step:>6}  validation  {shown}  ({seconds:.1f} s)")
        # Time spent here is no training time.
        self._logged_at = (self._logged_at[0] + seconds, self._logged_at[1])
        return metrics


def _to_devices(source: Iterator[Batch], calls: int, where: Any) -> Iterator[Batch]:
    while True:
        if calls == 1:
            batch = next(source)
        else:
            batch = jax.tree.map(lambda *x: np.stack(x), *(next(source) for _ in range(calls)))
        yield jax.device_put(batch, where)


def _opening(task, mesh, state, resumed, step) -> Iterator[str]:
    device = mesh.devices.flat[0]
    yield f"devices: {mesh.size} x {device.device_kind} ({device.platform})"
    for name, fact in task.describe().items():
        yield f"{name}: {fact}"
    yield f"parameters: {count_params(state.params):,}"
    if resumed:
        yield f"resumed at step {step}"
