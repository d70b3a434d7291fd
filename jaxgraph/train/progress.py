"""Progress of a run: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@runtime_checkable
class Display(Protocol):
    """Shows how far a run is; a context manager that ends the display."""

    def __enter__(self) -> "Display":
        """Itself."""

    def __exit__(self, *_) -> None:
        """Ends the display."""

    def update(self, step: int, text: str, *, logged: bool) -> None:
        """Moves to `step`; `text` tells the latest loss and rate, `logged` asks for a line."""

    def note(self, text: str) -> None:
        """A line of its own."""


class Plain:
    """One line per logged step, with the time left at the rate so far."""

    def __init__(self, start: int, total: int):
        self._start, self._total, self._begun = start, total, time.monotonic()

    def update(self, step: int, text: str, *, logged: bool) -> None:
        if logged:
            done = max(step - self._start, 1)
            left = (time.monotonic() - self._begun) / done * (self._total - step)
            print(f"step {step:>6}/{self._total}  {text}  left {clock(left)}", flush=True)

    def note(self, text: str) -> None:
        print(text, flush=True)

    def __enter__(self) -> "Plain":
        return self

    def __exit__(self, *_) -> None:
        """Nothing to end."""


class Bar:
    """A live bar with loss, rate and time left."""

    def __init__(self, start: int, total: int):
        self._progress = Progress(
            TextColumn("train"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"), TextColumn("left"), TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._bar = self._progress.add_task("train", total=total, completed=start, text="")

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()

    def update(self, step: int, text: str, *, logged: bool) -> None:
        self._progress.update(self._bar, completed=step, text=text)

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)


class Silent(Plain):
    """Shows nothing."""

    def update(self, step: int, text: str, *, logged: bool) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


def make_display(kind: str, start: int, total: int) -> Display:
    """`bar`, `plain`, `off`, or `auto`: a bar if standard error is a terminal."""
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "plain"
    return {"bar": Bar, "plain": Plain, "off": Silent}[kind](start, total)


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
