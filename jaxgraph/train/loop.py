"""The one loop: restore, then step, report, evaluate, save. It knows tasks and no model."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgraph.train import processes
from jaxgraph.train.checkpoint import Checkpoints
from jaxgraph.train.config import Parallel, Train
from jaxgraph.train.evaluate import evaluate
from jaxgraph.train.metrics import MetricLog
from jaxgraph.train.profile import Trace
from jaxgraph.train.progress import make_display
from jaxgraph.train.report import Reporter
from jaxgraph.train.runner import Runner, make_runner
from jaxgraph.train.signals import StopSignal
from jaxgraph.train.state import TrainState, count_params
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
    bit: a batch depends on its index, randomness on the step. Several processes call it alike; the
    first one writes and prints.

    Args:
      workdir: gets `metrics.jsonl`, TensorBoard events, `checkpoints/` and the task's artifacts.
      resolved: the whole config, kept in every checkpoint.

    Raises:
      UserError: batch and devices do not fit, or the loss is not finite under `nonfinite: abort`.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    main = processes.is_main()
    validation, batches = task.batches("validation"), task.batches("train")
    rows, calls = len(jax.tree.leaves(batches[0])[0]), config.steps_per_call
    runner = make_runner(
        task, parallel, rows=rows, calls=calls, precision=config.matmul_precision
    )
    if main:
        for name, text in task.artifacts().items():
            (workdir / name).write_text(text, encoding="utf-8")

    with Checkpoints(
        workdir / "checkpoints",
        keep_latest=config.keep_latest,
        keep_best=config.keep_best,
        config=resolved,
    ) as checkpoints, StopSignal() as signals:
        stop = processes.Agreement(signals)
        restored = checkpoints.restore(runner.template())
        state, position = restored or (None, {"next_batch": 0, "skipped": 0})
        if state is None:
            state = runner.init(seed)
        step, metrics = int(state.step), {}
        with (
            MetricLog(
                workdir, buffer=config.log_buffer, history=config.history, start=step, write=main
            ) as log,
            make_display(config.progress if main else "off", step, config.steps) as display,
            on_devices(batches[position["next_batch"] :], calls, runner) as source,
            Trace(workdir / "profile", config.profile) as trace,
        ):
            for line in _opening(task, runner, state, restored is not None):
                display.note(line)
            report = Reporter(config, log, display, step, position["skipped"])
            if restored is None:
                known = task.baselines("validation")
                log.add(0, {f"baseline/{name.replace(' ', '_')}": v for name, v in known.items()})

            def evaluated() -> dict[str, float]:
                report.release()
                begun = time.monotonic()
                found = evaluate(
                    runner.evaluate, state, runner.frozen, validation, config.eval_batches
                )
                found = task.derive(found, "validation")
                report.evaluation(step, found, time.monotonic() - begun)
                return found

            while step < config.steps and not stop.received:
                with jax.profiler.StepTraceAnnotation("train", step_num=step):
                    state, values = runner.step(state, runner.frozen, next(source))
                step += calls
                trace.done(calls, values)
                stop.ask()
                report.hold(step, values)
                last, loss = step >= config.steps, None
                if step % config.eval_every == 0 or last:
                    metrics = evaluated()
                    loss = metrics["loss"]
                if step % config.save_every == 0 or last or stop.received:
                    report.release()
                    log.flush()
                    position = {"next_batch": step, "skipped": report.skipped}
                    checkpoints.save(step, state, position, loss)
            if stop.received:
                display.note(f"{stop.received}: saved at step {step}; the same command goes on")
            elif not metrics:
                metrics = evaluated()
            return Result(state, metrics, list(log.history), stop.received)


@contextlib.contextmanager
def on_devices(batches: Any, calls: int, runner: Runner) -> Iterator[Iterator[Batch]]:
    """Batches, stacked by `calls`, placed on the devices as they are asked for.

    The step before is still at work then: dispatch is asynchronous, and the data set reads ahead.
    """
    source = iter(batches)

    def place() -> Iterator[Batch]:
        while True:
            parts = [next(source) for _ in range(calls)]
            batch = parts[0] if calls == 1 else jax.tree.map(lambda *x: np.stack(x), *parts)
            yield runner.place(batch)

    try:
        yield place()
    finally:
        # Read-ahead threads that live on at exit would complain there.
        getattr(source, "close", lambda: None)()


def _opening(task: Task, runner: Runner, state: TrainState, resumed: bool) -> Iterator[str]:
    yield from runner.describe()
    for name, fact in task.describe().items():
        yield f"{name}: {fact}"
    yield f"parameters: {count_params(state.params):,}"
    if resumed:
        yield f"resumed at step {int(state.step)}"
