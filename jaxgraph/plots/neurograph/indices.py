"""Where the phases of edges lie."""

import numpy as np
from matplotlib.figure import Figure as Canvas

from jaxgraph.config import Config
from jaxgraph.plots.figure import Figure
from jaxgraph.plots.history import History
from jaxgraph.plots.marks import level_line, panels
from jaxgraph.plots.neurograph.layers import MEASURED, by_place
from jaxgraph.plots.style import FAINT, PALETTE


def phases(history: History, config: Config) -> Canvas:
    del config
    layers = by_place(history, "phases")
    canvas, axes = panels(len(layers), size=(3.4, 2.6), sharey=True)
    for ax, (layer, bars) in zip(axes, layers.items(), strict=True):
        turn = 360 / len(bars)
        edges = np.arange(len(bars) + 1) * turn
        steps = bars[0].steps
        for moment, shade, label in ((0, FAINT, "first"), (-1, PALETTE[0], "last")):
            values = np.array([bar.values[moment] for bar in bars])
            ax.stairs(values, edges, color=shade, linewidth=1.6,
                      label=f"{label} measured step, {steps[moment]:,}")  # fmt: skip
        level_line(ax, 1 / len(bars), "even")
        ax.set_title(layer)
        ax.set_xlabel("phase, degrees")
        ax.set_xticks([0, 90, 180, 270, 360])
        ax.set_ylim(bottom=0)
    axes[0].set_ylabel("share of indices")
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=3)
    return canvas


FIGURES = [
    Figure(
        "neurograph_phases", "Phases of the edges",
        "Histograms of all phase indices of a layer, at the first and at the last measured step. "
        "They begin even; where signals are real, training gathers them at 0 and 180 degrees, "
        "where the cosine is largest.",
        (f"{MEASURED}phases/*",), phases,
    ),
]  # fmt: skip
