"""When ghosts wake, and what makes them."""

import numpy as np
from matplotlib.figure import Figure as Canvas

from jaxgraph.config import Config
from jaxgraph.plots.figure import Figure
from jaxgraph.plots.history import History, Series
from jaxgraph.plots.marks import faint, step_axis
from jaxgraph.plots.moe.tables import MEASURED, Entries, by_layer, layer_panels, together
from jaxgraph.plots.style import PALETTE, colour

FACTORS = ("train/ghosts/orthogonality", "train/ghosts/unexplained")
LEVEL, LEVELS = "train/ghosts/level", f"{MEASURED}ghosts/level"
NEEDS = (f"{LEVEL}/layer_*", *(f"{factor}/layer_*" for factor in FACTORS))


def saturations(history: History) -> dict[int, Series]:
    """By layer: the product of its two logged factors."""
    orthogonal, unexplained = (by_layer(history, factor) for factor in FACTORS)
    products = {}
    for layer in orthogonal:
        both: Entries = {(0,): orthogonal[layer][()], (1,): unexplained[layer][()]}
        steps, (first, second) = together(both)
        products[layer] = Series(steps, first * second)
    return products


def window_mean(series: Series, window: int) -> Series:
    """Mean over the logged values of the last `window` steps."""
    values = [
        series.values[(series.steps > step - window) & (series.steps <= step)].mean()
        for step in series.steps
    ]
    return Series(series.steps, np.array(values))


def ghost_timeline(history: History, config: Config) -> Canvas:
    means, saturated = by_layer(history, LEVEL), saturations(history)
    each, options = by_layer(history, LEVELS), config.task.model.ghosts
    canvas, axes = layer_panels(means, columns=2, size=(4.9, 2.7))
    handles = {}
    for layer, ax in axes:
        levels, mean = each.get(layer, {}), means[layer][()]
        for i, (entry, series) in enumerate(levels.items()):
            label, shade = f"level of G{entry[0]}", colour(i + 1, len(levels) + 1)
            handles[label], = ax.plot(*series, color=shade, linewidth=1.8, label=label)
        if not levels or len(mean.steps) > len(levels[0,].steps):
            label = "mean level"
            handles[label], = ax.plot(*mean, color="#000000", linestyle=":", label=label)
        ax.set_ylim(-0.03, 1.08)
        right = ax.twinx()
        handles["saturation of a batch"] = faint(right, saturated[layer])
        if options.timing == "step":
            label = f"its mean over the window of {options.window} steps"
            windowed = window_mean(saturated[layer], options.window)
            handles[label], = right.plot(*windowed, color=PALETTE[0], label=label)
        label = f"threshold {options.threshold:g}"
        handles[label] = right.axhline(
            options.threshold, linestyle="--", linewidth=1.1, color=PALETTE[0], label=label
        )
        right.spines["right"].set_visible(True)
        right.grid(False)
        # One scale for both axes, unless the seed's statistic, which has no bound, needs its own.
        high = max(saturated[layer].values.max(), options.threshold)
        right.set_ylim(-0.03, max(1.08, 1.08 * high))
        right.tick_params(colors=PALETTE[0])
        right.set_ylabel("saturation", color=PALETTE[0])
        ax.set_ylabel("level of a ghost")
        step_axis(ax)
    canvas.legend(handles.values(), handles, loc="outside lower center", ncols=4)
    return canvas


def phase(history: History, config: Config) -> Canvas:
    means, saturated = by_layer(history, LEVEL), saturations(history)
    canvas, axes = layer_panels(means, size=(3.5, 3.0), sharey=True)
    for layer, ax in axes:
        steps, (x, y) = together({(0,): saturated[layer], (1,): means[layer][()]})
        ax.plot(x, y, color="#cccccc", linewidth=0.7, zorder=1)
        dots = ax.scatter(
            x, y, c=steps, s=12, cmap="viridis", vmin=0, vmax=history.last_step, zorder=2
        )
        for at, label in ((0, "start"), (-1, "end")):
            ax.annotate(
                label, (x[at], y[at]), (0, 9), textcoords="offset points", ha="center", fontsize=8
            )
        threshold = config.task.model.ghosts.threshold
        ax.axvline(threshold, linestyle="--", linewidth=1.1, color=PALETTE[1])
        ax.set_title(f"layer {layer}; dashed: threshold {threshold:g}")
        ax.set_xlabel("saturation")
        ax.set_ylim(-0.05, 1.15)
    axes[0][1].set_ylabel("mean level of the ghosts")
    canvas.colorbar(dots, ax=[ax for _, ax in axes], label="optimiser step")
    return canvas


FIGURES = [
    Figure(
        "ghost_timeline", "Ghosts",
        "Levels of the ghosts (left axis: 0 asleep, 1 fully awake) and the layer's saturation "
        "(right axis): of single batches, and its mean over the window. A layer's next ghost wakes "
        "when that mean is above the threshold; the window then starts anew.",
        NEEDS, ghost_timeline,
    ),
    Figure(
        "saturation_phase", "Saturation and activation",
        "Each logged step as a point: does waking ghosts lower the saturation that woke them?",
        NEEDS, phase,
    ),
]
