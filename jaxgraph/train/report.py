"""Metrics on their way from the device to the log, one call late; and what to do about NaN."""

import math
import time
from typing import Any

import jax
import numpy as np

from jaxgraph.errors import UserError
from jaxgraph.train.config import Train
from jaxgraph.train.metrics import MetricLog
from jaxgraph.train.progress import Display


def is_diagnostic(name: str) -> bool:
    """Whether a metric is one of the costly ones, computed every `diagnostics_every` steps only."""
    return name.startswith("diagnostics/")


class Reporter:
    """Holds the latest call's metrics back until the next one is under way.

    Reading them then does not keep the device waiting.
    """

    def __init__(self, config: Train, log: MetricLog, display: Display, step: int, skipped: int):
        self.skipped = skipped
        """Steps dropped so far because something was not finite."""
        self._config, self._log, self._display = config, log, display
        self._held: tuple[int, Any] | None = None
        self._text = ""
        self._clock, self._clock_step = time.monotonic(), step

    def hold(self, step: int, metrics: Any) -> None:
        """Takes the metrics of the call that ends at `step`; reports those held before."""
        self.release()
        self._held = (step, metrics)

    def release(self) -> None:
        """Reports what is held.

        Raises:
          UserError: a step was not finite and the policy is to abort.
        """
        if self._held is None:
            return
        (end, metrics), self._held = self._held, None
        count = self._config.steps_per_call
        if not any(self._is_due(step) for step in range(end - count + 1, end + 1)):
            metrics = {name: v for name, v in metrics.items() if not is_diagnostic(name)}
        metrics = jax.device_get(metrics)
        for i in range(count):
            row = {name: float(v[i] if np.ndim(v) else v) for name, v in metrics.items()}
            self._report(end - count + i + 1, row)

    def evaluation(self, step: int, metrics: dict[str, float], seconds: float) -> None:
        """Logs an evaluation, whose time is no training time."""
        self._clock += seconds
        self._log.add(step, {f"validation/{name}": value for name, value in metrics.items()})
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self._display.note(f"step {step:>6}  validation  {shown}  ({seconds:.1f} s)")

    def _is_due(self, step: int) -> bool:
        return step % self._config.diagnostics_every == 0

    def _report(self, step: int, row: dict[str, float]) -> None:
        costly = {name: v for name, v in row.items() if is_diagnostic(name)}
        row = {name: v for name, v in row.items() if name not in costly}
        if row.pop("skipped"):
            self._skip(step, [name for name, value in row.items() if not math.isfinite(value)])
        logged = step % self._config.log_every == 0 or step == self._config.steps
        if logged:
            now = time.monotonic()
            rate = (step - self._clock_step) / max(now - self._clock, 1e-9)
            self._clock, self._clock_step = now, step
            row |= {"steps_per_second": rate, "skipped_steps": self.skipped}
            self._text = f"loss {row['loss']:.4f}  {rate:.2f} steps/s"
            if "items" in row:
                row["items_per_second"] = rate * row["items"]
                self._text += f"  {row['items_per_second']:,.0f} items/s"
        if not self._is_due(step):
            costly = {}
        written = (row if logged else {}) | costly
        if written:
            self._log.add(step, {f"train/{name}": value for name, value in written.items()})
        self._display.update(step, self._text, logged=logged)

    def _skip(self, step: int, bad: list[str]) -> None:
        self.skipped += 1
        terms = ", ".join(bad)
        if self._config.nonfinite == "abort":
            raise UserError(
                f"step {step}: {terms} not finite; the state is left as it was before the step and "
                "the last checkpoint is good. Lower the learning rate or the clipping norm, or set "
                "train.nonfinite to skip"
            )
        self._display.note(f"step {step} skipped ({self.skipped} so far): {terms} not finite")
