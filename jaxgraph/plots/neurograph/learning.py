"""How well the graph classifies, and how its indices move."""

from matplotlib.figure import Figure as Canvas

from jaxgraph.config import Config
from jaxgraph.plots.figure import Figure
from jaxgraph.plots.history import History
from jaxgraph.plots.marks import line, log_axis, noisy_line, panels, step_axis
from jaxgraph.plots.neurograph.layers import MEASURED, by_layer
from jaxgraph.plots.style import PALETTE, colour

FEW = 40
"""Points from which on accuracies, which are those of single batches, are shown by their mean."""
ALERTS = ("explosion", "vanishing", "stagnation")


def accuracy(history: History, config: Config) -> Canvas:
    del config
    canvas, (ax, missed) = panels(2, columns=2, size=(4.4, 3.0))
    for i, split in enumerate(("train", "validation")):
        series = history[f"{split}/accuracy"]
        wrong = series._replace(values=1 - series.values)
        for one, shown in ((ax, series), (missed, wrong)):
            noisy_line(one, shown, PALETTE[i], split, many=FEW)
    ax.set_ylabel("accuracy")
    ax.legend(loc="lower right")
    missed.set_ylabel("share of errors")
    # Late errors are what matters: the first ones may leave the panel.
    missed.set_ylim(0, min(1.0, 6 * (1 - history["validation/accuracy"].values.max()) + 1e-3))
    for one in (ax, missed):
        step_axis(one)
    return canvas


def steps(history: History, config: Config) -> Canvas:
    del config
    names = {
        "step_bins": "mean step of an index, bins",
        "moved": "share of indices moved",
        "descent_cosine": "cosine of steps and -gradient",
        "rounding_cosine": "cosine of steps before and after rounding",
    }
    canvas, axes = panels(len(names), columns=2, size=(4.4, 2.5))
    for ax, (name, label) in zip(axes, names.items(), strict=True):
        found = by_layer(history, name)
        for i, (layer, series) in enumerate(found.items()):
            line(ax, series, label=layer, color=colour(i, len(found)))
        ax.set_title(label)
        step_axis(ax)
    canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return canvas


def gradients(history: History, config: Config) -> Canvas:
    del config
    kinds = ("phase", "mag")
    canvas, axes = panels(2, columns=2, size=(4.4, 3.0), sharey=True)
    for ax, kind in zip(axes, kinds, strict=True):
        found = by_layer(history, f"grad_norm_{kind}")
        for i, (layer, series) in enumerate(found.items()):
            line(ax, series, label=layer, color=colour(i, len(found)))
        log_axis(ax)
        ax.set_title({"phase": "phases", "mag": "magnitudes"}[kind])
        step_axis(ax)
    axes[0].set_ylabel("norm of the gradient per bin")
    raised = {
        alert: sum(int((s.values >= 1).sum()) for s in by_layer(history, f"alert_{alert}").values())
        for alert in ALERTS
    }
    told = ", ".join(f"{count} {alert}" for alert, count in raised.items())
    canvas.supxlabel(f"alerts in the measured steps: {told}", fontsize=8)
    axes[1].legend()
    return canvas


FIGURES = [
    Figure(
        "neurograph_accuracy", "Accuracy",
        "Accuracy of training batches and of the validation split, and the errors that are left, "
        "enlarged.",
        ("train/accuracy", "validation/accuracy"), accuracy,
    ),
    Figure(
        "neurograph_steps", "Steps of the indices",
        "How far indices move in a step, how many do, and whether they move downhill: the cosine "
        "between the whole steps taken and the gradient, and what rounding leaves of the direction "
        "that was wanted.",
        (f"{MEASURED}step_bins/*", f"{MEASURED}descent_cosine/*"), steps,
    ),
    Figure(
        "neurograph_gradients", "Gradients",
        "Norms of the gradients per bin of each layer, and how often the original's limits for "
        "explosion, vanishing and stagnation were crossed.",
        (f"{MEASURED}grad_norm_phase/*", f"{MEASURED}grad_norm_mag/*"), gradients,
    ),
]  # fmt: skip
