"""The angles by which experts turn what they read."""

import numpy as np
from matplotlib.figure import Figure as Canvas

from jaxgraph.config import Config
from jaxgraph.plots.figure import Figure, TooLittle
from jaxgraph.plots.history import History
from jaxgraph.plots.marks import heatmap, line, panels, step_axis
from jaxgraph.plots.moe.tables import MEASURED, by_layer, latest_rows, layer_panels, node_names
from jaxgraph.plots.style import DIVERGING, colour

ANGLE = f"{MEASURED}rotation/angle"
MOST = 8
"""Layers and experts that get a panel of their own."""


def angles(history: History, config: Config) -> Canvas:
    layers = dict(list(by_layer(history, ANGLE).items())[:MOST])
    experts = min(1 + max(e for entries in layers.values() for e, _ in entries), MOST)
    canvas, axes = panels(
        len(layers) * experts, columns=experts, size=(2.1, 1.9), sharex=True, sharey=True
    )
    planes = 1 + max(k for entries in layers.values() for _, k in entries)
    for i, (layer, entries) in enumerate(layers.items()):
        for e in range(experts):
            ax = axes[i * experts + e]
            for k in range(planes):
                label = f"angle {k}" if i == e == 0 else None
                line(ax, entries[e, k], color=colour(k, planes), label=label)
            ax.set_title(f"layer {layer}, E{e}")
            if i == len(layers) - 1:
                step_axis(ax)
        axes[i * experts].set_ylabel("radians")
    canvas.legend(loc="outside lower center", ncols=8)
    return canvas


def size(history: History, config: Config) -> Canvas:
    names = history.names("train/rotation/angle/*")
    canvas, (ax,) = panels(1, size=(7.5, 2.9))
    for i, name in enumerate(names):
        label = name.removeprefix("train/rotation/angle/").replace("_", " ")
        line(ax, history[name], color=colour(i, len(names)), label=label)
    ax.set_ylabel("mean |angle| (radians)")
    ax.set_ylim(bottom=0)
    step_axis(ax)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return canvas


def alike(history: History, config: Config) -> Canvas:
    layers = by_layer(history, ANGLE)
    canvas, axes = layer_panels(layers, size=(3.3, 3.1))
    for layer, ax in axes:
        table = latest_rows(layers[layer])
        if table.shape[1] < 2:
            raise TooLittle("experts have one angle each, whose direction says nothing")
        unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
        names = node_names(len(table), config)
        image = heatmap(ax, unit @ unit.T, names, low=-1.0, high=1.0, cmap=DIVERGING)
    canvas.colorbar(image, ax=[ax for _, ax in axes], label="cosine between angle vectors")
    return canvas


FIGURES = [
    Figure(
        "rotation_angles", "Rotation angles of each expert",
        "Mean angle in use over the tokens of a batch, one line per plane (with kind cayley, per "
        f"entry of the skew matrix). The first {MOST} layers and experts.",
        (f"{ANGLE}/layer_*",), angles,
    ),
    Figure(
        "rotation_size", "Size of the rotations", "Mean size of the angles.",
        ("train/rotation/angle/*",), size,
    ),
    Figure(
        "rotation_similarity", "Similarity of rotations",
        "Cosine between the experts' vectors of angles at the last measurement. Their planes are "
        "learned too: alike angles in different planes are different turns.",
        (f"{ANGLE}/layer_*",), alike,
    ),
]
