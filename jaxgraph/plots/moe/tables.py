"""Per-layer tables of nodes, put together from the scalars that were logged."""

import re

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from jaxgraph.config import Config
from jaxgraph.plots.figure import TooLittle
from jaxgraph.plots.history import History, Series
from jaxgraph.plots.marks import panels

Entries = dict[tuple[int, ...], Series]
"""Series by the numbers in a metric's last part: `2` or `0-3`."""

MEASURED = "train/diagnostics/"
ENTRY = re.compile(r"layer_(\d+)(?:/(?:[a-z]+_)?([\d-]+))?")
"""`layer_1`, `layer_1/2`, `layer_1/expert_2`, `layer_1/0-3`."""


def by_layer(history: History, metric: str) -> dict[int, Entries]:
    """Series of `metric/layer_i/entry`, or of `metric/layer_i` under the entry ()."""
    found: dict[int, Entries] = {}
    for name in history.names(f"{metric}/layer_*"):
        parts = ENTRY.fullmatch(name.removeprefix(f"{metric}/"))
        if parts:
            entry = tuple(int(number) for number in (parts[2] or "").split("-") if number)
            found.setdefault(int(parts[1]), {})[entry] = history[name]
    return {layer: dict(sorted(found[layer].items())) for layer in sorted(found)}


def node_names(count: int, config: Config) -> list[str]:
    """E0, E1, ... for primary experts, then G0, ... for ghosts."""
    primaries = config.task.model.num_experts
    return [f"E{n}" if n < primaries else f"G{n - primaries}" for n in range(count)]


def latest(entries: Entries, *, symmetric: bool = True) -> Float[np.ndarray, "n n"]:
    """The table at the last step at which it was measured; NaN where there is no entry."""
    step = max(series.steps[-1] for series in entries.values())
    count = 1 + max(max(entry) for entry in entries)
    table = np.full((count, count), np.nan)
    for (i, j), series in entries.items():
        if series.steps[-1] == step:
            table[i, j] = series.last
            if symmetric:
                table[j, i] = series.last
    return table


def latest_rows(entries: Entries) -> Float[np.ndarray, "n m"]:
    """Last values of a full table with rows and columns of different kinds."""
    rows, columns = (1 + max(axis) for axis in zip(*entries, strict=True))
    return np.array([[entries[i, j].last for j in range(columns)] for i in range(rows)])


def together(entries: Entries) -> tuple[np.ndarray, Float[np.ndarray, "n t"]]:
    """Steps at which all entries have a value, and the values."""
    steps = None
    for series in entries.values():
        steps = series.steps if steps is None else np.intersect1d(steps, series.steps)
    rows = [s.values[np.searchsorted(s.steps, steps)] for s in entries.values()]
    return steps, np.array(rows).reshape(len(entries), len(steps))


def need_steps(entries: Entries, count: int) -> None:
    """Raises `TooLittle` where a figure needs more measurements than there are."""
    steps, _ = together(entries)
    if len(steps) < count:
        raise TooLittle(
            f"needs {count} measurements, got {len(steps)}; lower train.diagnostics_every"
        )


def layer_panels(layers: dict[int, Entries], **options) -> tuple[Canvas, list[tuple[int, Axes]]]:
    """One panel per layer."""
    canvas, axes = panels(len(layers), **options)
    for ax, layer in zip(axes, layers, strict=True):
        ax.set_title(f"layer {layer}")
    return canvas, list(zip(layers, axes, strict=True))
