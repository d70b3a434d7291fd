"""Terms of the evidence lower bound, their weights, and how far classes lie apart."""

from matplotlib.figure import Figure as Canvas

from jaxgraph.config import Config
from jaxgraph.plots.figure import Figure
from jaxgraph.plots.history import History
from jaxgraph.plots.marks import legend, level_line, line, noisy_line, panels, step_axis
from jaxgraph.plots.style import PALETTE

KNOWN = "baseline/constant_decoder"


def terms(history: History, config: Config) -> Canvas:
    canvas, axes = panels(2, columns=2, size=(4.6, 2.9))
    for ax, name, label in zip(
        axes, ("nll", "kl"), ("-log p(x | z) (nats)", "KL (nats)"), strict=True
    ):
        noisy_line(ax, history[f"train/elbo/{name}"], PALETTE[0], "training")
        if f"validation/{name}" in history:
            line(ax, history[f"validation/{name}"], color=PALETTE[1], label="validation")
        ax.set_ylabel(label)
        step_axis(ax)
    if KNOWN in history:
        level_line(axes[0], history[KNOWN].last, "constant decoder")
    axes[1].set_ylim(bottom=0)
    # What tells of the end must not be squeezed by the first steps.
    values = history["train/elbo/nll"].values
    if len(values) >= 20:
        tail = values[len(values) // 10 :]
        low, high = tail.min(), tail.max()
        if KNOWN in history:
            low, high = min(low, history[KNOWN].last), max(high, history[KNOWN].last)
        axes[0].set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return canvas


def latents(history: History, config: Config) -> Canvas:
    canvas, (ax,) = panels(1, size=(7.5, 2.9))
    noisy_line(ax, history["train/elbo/latents_in_use"], PALETTE[0], "training batches")
    if "validation/latents_in_use" in history:
        series = history["validation/latents_in_use"]
        line(ax, series, color=PALETTE[1], label="validation batches")
    ax.set_ylabel("latents above 0.01 nats")
    ax.set_ylim(bottom=-0.2)
    step_axis(ax)
    legend(ax)
    return canvas


def weights(history: History, config: Config) -> Canvas:
    shown = {
        "train/elbo/beta": "beta: of the KL", "train/separability/lambda": "lambda: of the score",
    }
    canvas, axes = panels(2, columns=2, size=(4.6, 2.5))
    for ax, (name, label) in zip(axes, shown.items(), strict=True):
        line(ax, history[name], color=PALETTE[2])
        ax.set_ylabel(label)
        ax.set_ylim(bottom=0)
        step_axis(ax)
    return canvas


def separability(history: History, config: Config) -> Canvas:
    canvas, axes = panels(2, columns=2, size=(4.6, 2.7))
    for ax, name, label in zip(
        axes, ("score", "adjusted"), ("J: between over within", "J over its chance level"),
        strict=True,
    ):  # fmt: skip
        noisy_line(ax, history[f"train/separability/{name}"], PALETTE[0])
        ax.set_ylabel(label)
        ax.set_ylim(bottom=0)
        step_axis(ax)
    level_line(axes[1], 1.0, "latents that ignore the class")
    canvas.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center")
    return canvas


def bits(history: History, config: Config) -> Canvas:
    canvas, (ax,) = panels(1, size=(7.5, 2.7))
    line(ax, history["validation/bit_accuracy"], color=PALETTE[1])
    ax.set_ylabel("validation bits decoded right")
    step_axis(ax)
    return canvas


FIGURES = [
    Figure(
        "bound", "Terms of the bound",
        "Without their weights. Where the negative log-likelihood stays at the constant decoder's "
        "and the KL at 0, the latents carry nothing: the posterior has collapsed.",
        ("train/elbo/nll", "train/elbo/kl"), terms,
    ),
    Figure(
        "latents_in_use", "Latents in use",
        "Dimensions whose mean KL over a batch is above 0.01 nats.",
        ("train/elbo/latents_in_use",), latents,
    ),
    Figure(
        "weights", "Weights of the terms", "The KL's, and that of the separability score.",
        ("train/elbo/beta", "train/separability/lambda"), weights,
    ),
    Figure(
        "separability", "Separability of the classes",
        "Fisher's ratio of sampled latents in each training batch, and the same over its mean for "
        "latents that do not depend on the class: about 1 means that nothing is separated.",
        ("train/separability/score", "train/separability/adjusted"), separability,
    ),
    Figure(
        "bit_accuracy", "Bits decoded right", "From one latent sample each.",
        ("validation/bit_accuracy",), bits,
    ),
]
