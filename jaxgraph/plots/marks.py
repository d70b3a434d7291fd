"""What figures are made of: grids of panels, lines, heat maps."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from jaxgraph.plots.history import Series
from jaxgraph.plots.style import FAINT, MISSING, SEQUENTIAL

STEP = "optimiser step"
MANY = 200
"""Points from which on a line is drawn with its running mean."""

CROWDED = 8
"""Nodes beyond which tables and bars bear no numbers and labels turn upright."""


def panels(
    count: int, columns: int = 3, size: tuple[float, float] = (3.4, 2.5), **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels, at most `columns` in a row."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    # A single panel is wider, and room is left for a title.
    width = max(columns * size[0], 6.4)
    figure = Figure(figsize=(width, rows * size[1] + 0.5))
    axes = figure.subplots(rows, columns, squeeze=False, **options).flatten()
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, list(axes[:count])


def step_axis(ax: Axes) -> None:
    """Labels the time axis; whole steps only."""
    ax.set_xlabel(STEP)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))


def log_axis(ax: Axes) -> None:
    """A logarithmic vertical axis, labelled at powers of ten."""
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def line(ax: Axes, series: Series, *, label: str | None = None, **options: Any) -> None:
    """A line over steps, with dots where there are few values."""
    marker = "o" if len(series.steps) <= 12 else None
    ax.plot(series.steps, series.values, marker=marker, markersize=3.5, label=label, **options)


def noisy_line(
    ax: Axes, series: Series, colour: Any, label: str | None = None, many: int = MANY
) -> None:
    """A line; of many values their running mean, with the values behind it."""
    if len(series.steps) < many:
        line(ax, series, label=label, color=colour)
        return
    ax.plot(series.steps, series.values, color=colour, alpha=0.3, linewidth=0.8)
    ax.plot(series.steps, running_mean(series.values), color=colour, label=label)


def running_mean(values: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Mean over a twentieth of the values around each, fewer at both ends."""
    reach = max(len(values) // 40, 2)
    reach = np.minimum(reach, np.minimum(np.arange(len(values)), np.arange(len(values))[::-1]))
    total = np.concatenate([[0.0], np.cumsum(values)])
    start, end = np.arange(len(values)) - reach, np.arange(len(values)) + reach + 1
    return (total[end] - total[start]) / (end - start)


def level_line(ax: Axes, value: float, label: str, colour: Any = "#555555") -> None:
    """A dashed horizontal line for comparison."""
    ax.axhline(value, linestyle="--", linewidth=1.1, color=colour, label=label)


def legend(ax: Axes) -> None:
    """Outside the data."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)


def heatmap(
    ax: Axes,
    values: Float[np.ndarray, "n m"],
    labels: Sequence[str],
    *,
    low: float,
    high: float,
    cmap: str = SEQUENTIAL,
) -> Any:
    """A square table of nodes, with its numbers where they can be read; NaN is grey."""
    shades = matplotlib.colormaps[cmap].with_extremes(bad=MISSING)
    image = ax.imshow(np.ma.masked_invalid(values), cmap=shades, vmin=low, vmax=high)
    ax.set_xticks(range(len(labels)), labels)
    ax.set_yticks(range(len(labels)), labels)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if len(labels) > CROWDED:
        ax.tick_params(labelsize=6)
        ax.tick_params(axis="x", rotation=90)
        return image
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            ax.text(
                j, i, f"{round(value, 2) + 0.0:.2f}", ha="center", va="center", fontsize=7,
                color="white" if dark else "black",
            )
    return image


def timeline(
    ax: Axes, series: Sequence[Series], labels: Sequence[str], *, low: float, high: float
) -> Any:
    """One row of cells per series over steps, the first on top."""
    steps = np.unique(np.concatenate([s.steps for s in series]))
    values = np.full((len(series), len(steps)), np.nan)
    for row, one in zip(values, series, strict=True):
        row[np.searchsorted(steps, one.steps)] = one.values
    # A cell reaches from the measurement before it to its own.
    first = steps[0] - (steps[1] - steps[0] if len(steps) > 1 else 1)
    edges = np.concatenate([[max(first, 0)], steps])
    shades = matplotlib.colormaps[SEQUENTIAL].with_extremes(bad=MISSING)
    image = ax.pcolormesh(
        edges, np.arange(len(series) + 1) - 0.5, np.ma.masked_invalid(values), cmap=shades,
        vmin=low, vmax=high,
    )
    ax.set_yticks(range(len(labels)), labels)
    ax.invert_yaxis()
    ax.grid(False)
    step_axis(ax)
    return image


def faint(ax: Axes, series: Series) -> Line2D:
    """Values in the background."""
    return ax.plot(series.steps, series.values, color=FAINT, linewidth=1, zorder=1)[0]
