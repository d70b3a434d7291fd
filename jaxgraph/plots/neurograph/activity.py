"""Which nodes are active, over time."""

import numpy as np
from matplotlib.figure import Figure as Canvas

from jaxgraph.config import Config
from jaxgraph.plots.figure import Figure
from jaxgraph.plots.history import History
from jaxgraph.plots.marks import line, panels, step_axis
from jaxgraph.plots.neurograph.layers import MEASURED, by_layer, by_place
from jaxgraph.plots.style import SEQUENTIAL, colour

MOMENTS = 4
"""Pictures of the graph, from the first measured step to the last."""
EDGES = 300
"""Edges drawn at most between two layers."""


def graph(history: History, config: Config) -> Canvas:
    del config
    active = by_place(history, "active")
    steps = next(iter(active.values()))[0].steps
    moments = np.unique(np.linspace(0, len(steps) - 1, MOMENTS).round().astype(int))
    canvas, axes = panels(len(moments), columns=len(moments), size=(2.6, 3.4), sharey=True)
    for ax, moment in zip(axes, moments, strict=True):
        columns = [np.array([series.values[moment] for series in of]) for of in active.values()]
        spots = [np.linspace(0, 1, len(column) + 2)[1:-1] for column in columns]
        for i in range(len(columns) - 1):
            _edges(ax, i, spots[i], spots[i + 1])
        for i, (column, places) in enumerate(zip(columns, spots, strict=True)):
            dots = ax.scatter(
                np.full(len(column), i), places, c=column, s=26, cmap=SEQUENTIAL, vmin=0, vmax=1,
                edgecolors="#555555", linewidths=0.4, zorder=2,
            )  # fmt: skip
        ax.set_title(f"step {steps[moment]:,}")
        ax.set_xticks(range(len(columns)), list(active))
        ax.set_xlim(-0.4, len(columns) - 0.6)
        ax.set_yticks([])
        ax.grid(False)
    canvas.colorbar(dots, ax=axes, label="share of samples in which a node is active")
    return canvas


def counts(history: History, config: Config) -> Canvas:
    del config
    names = {
        "active_nodes": "active nodes of a sample", "dead_nodes": "active in no sample of a batch",
        "never_silent": "active in all samples of a batch",
    }  # fmt: skip
    canvas, axes = panels(len(names), columns=3, size=(3.4, 2.8))
    for ax, (name, label) in zip(axes, names.items(), strict=True):
        found = by_layer(history, name)
        for i, (layer, series) in enumerate(found.items()):
            line(ax, series, label=layer, color=colour(i, len(found)))
        ax.set_title(label)
        ax.set_ylim(bottom=0)
        step_axis(ax)
    axes[0].set_ylabel("nodes")
    axes[0].legend()
    return canvas


def _edges(ax, column: int, left: np.ndarray, right: np.ndarray) -> None:
    pairs = [(a, b) for a in left for b in right]
    for a, b in pairs[:: -(-len(pairs) // EDGES)]:
        ax.plot([column, column + 1], [a, b], color="#dddddd", linewidth=0.4, zorder=1)


FIGURES = [
    Figure(
        "neurograph_graph", "The graph and its active nodes over time",
        "Hidden layers from left to right, a dot for each dimension of a layer's nodes (or for "
        "each group of nodes of a sparse graph), coloured by how often it is active; at some "
        "steps of the training. Of the edges between two layers at most 300 are drawn.",
        (f"{MEASURED}active/*",), graph,
    ),
    Figure(
        "neurograph_activity", "Active and dead nodes",
        "Nodes that pass on a signal, by layer; those that did so for no sample of the batch, and "
        "those that did so for every one.",
        (f"{MEASURED}active_nodes/*", f"{MEASURED}dead_nodes/*"), counts,
    ),
]  # fmt: skip
