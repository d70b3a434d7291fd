"""What a run logged, by metric instead of by row."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxgraph.errors import UserError
from jaxgraph.train.metrics import read_rows


class Series(NamedTuple):
    """Values of one metric, finite ones only, in the order of their steps."""

    steps: Int[np.ndarray, " t"]
    values: Float[np.ndarray, " t"]

    @property
    def last(self) -> float:
        return float(self.values[-1])


class History:
    """All metrics of a run. Of two values for the same step the later one counts."""

    def __init__(self, rows: Iterable[dict]):
        found: dict[str, dict[int, float]] = {}
        for row in rows:
            for name, value in row.items():
                # Not finite is null in the file.
                if name != "step" and value is not None:
                    found.setdefault(name, {})[int(row["step"])] = float(value)
        self._series = {
            name: Series(np.array(sorted(of)), np.array([of[step] for step in sorted(of)]))
            for name, of in found.items()
        }
        self.last_step = max((int(s.steps[-1]) for s in self._series.values()), default=0)

    def __getitem__(self, name: str) -> Series:
        return self._series[name]

    def __contains__(self, name: str) -> bool:
        return name in self._series

    def names(self, pattern: str) -> list[str]:
        """Names that a shell pattern matches, as they were first logged."""
        return [name for name in self._series if fnmatchcase(name, pattern)]


def read_history(path: Path) -> History:
    """The history in a `metrics.jsonl`.

    A last line that a kill cut short is left out, as it is on resuming.

    Raises:
      UserError: there is no such file, it holds no row, or it is damaged.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; name the workdir of a training run")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = read_rows(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; restore the file") from error
    whole = len(lines) - len(rows) <= 1
    if not (whole and all(_is_row(row) for row in rows)):
        bad = next((i for i, row in enumerate(rows) if not _is_row(row)), len(rows))
        raise UserError(
            f"{path}, line {bad + 1}: expected a JSON object with a step and numbers, got "
            f"{lines[bad][:60]!r}; remove the line or restore the file"
        )
    history = History(rows)
    if not history.last_step:
        raise UserError(f"{path} holds no metrics yet; train for at least train.log_every steps")
    return history


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("step"), int | float):
        return False
    return all(value is None or isinstance(value, int | float) for value in row.values())
