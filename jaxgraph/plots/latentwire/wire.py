"""Terms of the loss, and what the wire carries."""

from matplotlib.figure import Figure as Canvas

from jaxgraph.config import Config
from jaxgraph.plots.figure import Figure
from jaxgraph.plots.history import History
from jaxgraph.plots.marks import legend, level_line, line, noisy_line, panels, step_axis
from jaxgraph.plots.style import PALETTE

TERMS = {
    "tf": "whole answer", "first": "first token", "kce": "first K tokens", "kd": "distillation",
}  # fmt: skip
KNOWN = "baseline/token_frequencies"


def terms(history: History, config: Config) -> Canvas:
    del config
    models = [name.split("/")[1] for name in history.names("train/*/tf")]
    canvas, axes = panels(len(models), columns=2, size=(4.6, 2.9))
    for ax, model in zip(axes, models, strict=True):
        for i, (term, label) in enumerate(TERMS.items()):
            if f"train/{model}/{term}" in history:
                noisy_line(ax, history[f"train/{model}/{term}"], PALETTE[i], label)
        ax.set_title(model)
        ax.set_ylabel("nats")
        ax.set_ylim(bottom=0)
        step_axis(ax)
    canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return canvas


def carried(history: History, config: Config) -> Canvas:
    del config
    canvas, (ax,) = panels(1, size=(7.5, 2.9))
    names = {"loss": "its own wire", "swapped_loss": "another text's wire"}
    for i, (name, label) in enumerate(names.items()):
        line(ax, history[f"validation/{name}"], color=PALETTE[i], label=label)
    if KNOWN in history:
        level_line(ax, history[KNOWN].last, "token frequencies")
    ax.set_ylabel("nats a token")
    step_axis(ax)
    legend(ax)
    return canvas


def accuracy(history: History, config: Config) -> Canvas:
    del config
    canvas, (ax,) = panels(1, size=(7.5, 2.7))
    for i, (name, label) in enumerate({"token_acc": "all tokens", "first_acc": "first"}.items()):
        line(ax, history[f"validation/{name}"], color=PALETTE[i], label=label)
    ax.set_ylabel("tokens right")
    ax.set_ylim(0, 1)
    step_axis(ax)
    legend(ax)
    return canvas


def diversity(history: History, config: Config) -> Canvas:
    del config
    canvas, (ax,) = panels(1, size=(7.5, 2.7))
    noisy_line(ax, history["train/wire/diversity"], PALETTE[0], "training batches")
    if "validation/diversity" in history:
        line(ax, history["validation/diversity"], color=PALETTE[1], label="validation")
    level_line(ax, 2**0.5, "unrelated wires")
    ax.set_ylabel("distance of two wires")
    ax.set_ylim(bottom=0)
    step_axis(ax)
    legend(ax)
    return canvas


FIGURES = [
    Figure(
        "wire_terms", "Terms of the loss",
        "Without their weights, for each frozen model.", ("train/*/tf",), terms,
    ),
    Figure(
        "wire_carried", "What the wire carries",
        "Validation loss through a text's own wire and through another text's. Where the two are "
        "one, the wire says nothing of its text.",
        ("validation/loss", "validation/swapped_loss"), carried,
    ),
    Figure(
        "wire_accuracy", "Tokens of the answer that are right",
        "Each is predicted behind the true ones before it; validation split.",
        ("validation/token_acc", "validation/first_acc"), accuracy,
    ),
    Figure(
        "wire_diversity", "Diversity of the wires",
        "Mean distance of two texts' wires over their length: 0 where every text has the same.",
        ("train/wire/diversity",), diversity,
    ),
]  # fmt: skip
