"""Metric rows: gathered in memory, written in blocks to JSONL and TensorBoard."""

import json
import math
import os
import sys
from collections import deque
from pathlib import Path
from typing import Any

Row = dict[str, float]


class MetricLog:
    """Rows of scalars by step.

    Rows wait in a buffer and go to disk together, so that no step waits for a disk. Values that are
    not finite become null in `metrics.jsonl` (NaN is not JSON) and are left out of TensorBoard.
    """

    def __init__(
        self,
        folder: Path,
        *,
        buffer: int = 50,
        history: int = 1000,
        start: int = 0,
        write: bool = True,
    ):
        """Opens the log of a run that goes on after step `start`; later rows are dropped, since
        the steps they tell of will be done again. Without `write` rows are kept in memory only."""
        self.history: deque[Row] = deque(maxlen=history)
        self.writes = 0
        self._buffer_size = buffer
        self._rows: list[Row] = []
        self.path = folder / "metrics.jsonl"
        self._board = None
        if write:
            folder.mkdir(parents=True, exist_ok=True)
            _drop_rows_after(self.path, start)
            writer = _import_tensorboard().SummaryWriter
            self._board = writer(str(folder / "tensorboard"), purge_step=start + 1)

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(self, *_) -> None:
        self.flush()
        if self._board:
            self._board.close()

    def add(self, step: int, metrics: dict[str, float]) -> None:
        """Adds one row; writes when the buffer is full."""
        row = {"step": step} | {name: float(value) for name, value in metrics.items()}
        self.history.append(row)
        self._rows.append(row)
        if len(self._rows) >= self._buffer_size:
            self.flush()

    def flush(self) -> None:
        """Writes what waits: one write to the file, however many rows."""
        rows, self._rows = self._rows, []
        if not rows or not self._board:
            return
        lines = [json.dumps({k: v if math.isfinite(v) else None for k, v in row.items()}) + "\n"
                 for row in rows]
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("".join(lines))
        self.writes += 1
        for row in rows:
            for name, value in row.items():
                if name != "step" and math.isfinite(value):
                    self._board.add_scalar(name, value, int(row["step"]))
        self._board.flush()


def read_rows(path: Path) -> list[Any]:
    """Rows of a metrics file, dicts unless somebody wrote other JSON into it; a last line cut short
    by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _import_tensorboard() -> Any:
    """tensorboardX, which imports all of PyTorch where it finds it, for tensors that no row holds:
    more than a second at each start, and some hundred megabytes."""
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None
    try:
        import tensorboardX
    finally:
        if hide:
            del sys.modules["torch"]
    return tensorboardX


def _drop_rows_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = [row for row in read_rows(path) if row["step"] <= step]
    part = path.with_suffix(".part")
    part.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    os.replace(part, path)
