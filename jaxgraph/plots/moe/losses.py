"""Terms of geometric training, and what a router logs."""

from matplotlib.figure import Figure as Canvas

from jaxgraph.config import Config
from jaxgraph.plots.figure import Figure
from jaxgraph.plots.history import History
from jaxgraph.plots.marks import legend, line, noisy_line, panels, step_axis
from jaxgraph.plots.moe.tables import by_layer
from jaxgraph.plots.style import PALETTE, colour


def geometric(history: History, config: Config) -> Canvas:
    names = history.names("train/geometric/*")
    canvas, axes = panels(len(names))
    for ax, name in zip(axes, names, strict=True):
        noisy_line(ax, history[name], PALETTE[0])
        ax.set_title(name.removeprefix("train/geometric/"))
        step_axis(ax)
    axes[0].set_ylabel("term, before its weight")
    return canvas


def router(history: History, config: Config) -> Canvas:
    names = history.names("train/router/*") + history.names("train/diagnostics/router/*")
    metrics = list(dict.fromkeys(name.split("/layer_")[0] for name in names))
    canvas, axes = panels(len(metrics), columns=2, size=(4.4, 2.6))
    for ax, metric in zip(axes, metrics, strict=True):
        lines = {
            "/".join([f"layer {layer}", *map(str, entry)]): series
            for layer, entries in by_layer(history, metric).items()
            for entry, series in entries.items()
        }
        if metric in history:
            lines[""] = history[metric]
        for i, (label, series) in enumerate(lines.items()):
            line(ax, series, color=colour(i, len(lines)), label=label or None)
        ax.set_title(metric.split("router/")[1])
        step_axis(ax)
        if 1 < len(lines) <= 16:
            legend(ax)
    return canvas


FIGURES = [
    Figure(
        "geometric_terms", "Geometric terms",
        "What geometric training adds to the loss, before its weights; smaller is better.",
        ("train/geometric/*",), geometric,
    ),
    Figure(
        "router", "Router", "What the top-k router logs.", ("train/*router/*",), router,
    ),
]
