"""Figures that every system has: loss, rates, norms, speed."""

from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure as Canvas

from jaxgraph.config import Config
from jaxgraph.plots.figure import Figure
from jaxgraph.plots.history import History, Series
from jaxgraph.plots.marks import (
    legend,
    level_line,
    line,
    log_axis,
    noisy_line,
    panels,
    step_axis,
)
from jaxgraph.plots.style import PALETTE, colour

LOSS_UNITS = {"moe": "nats per token", "vae": "nats per row"}
"""By system."""


def loss(history: History, config: Config) -> Canvas:
    canvas, (ax,) = panels(1, size=(7.5, 3.4))
    noisy_line(ax, history["train/loss"], PALETTE[0], "training, all terms")
    if "validation/loss" in history:
        validation = history["validation/loss"]
        ax.plot(*validation, "o-", color=PALETTE[1], markersize=4, label="validation")
    for i, name in enumerate(history.names("baseline/*")):
        what = name.removeprefix("baseline/").replace("_", " ")
        value = history[name].last
        level_line(ax, value, f"{what}: {value:.2f}", ("#555555", *PALETTE[2:])[i % 6])
    units = LOSS_UNITS.get(config.system)
    ax.set_ylabel("loss" + (f" ({units})" if units else ""))
    step_axis(ax)
    legend(ax)
    return canvas


def perplexity(history: History, config: Config) -> Canvas:
    canvas, (ax,) = panels(1, size=(6.4, 3.0))
    series = history["validation/perplexity"]
    line(ax, series, color=PALETTE[1])
    if series.values.max() > 3 * series.values.min():
        log_axis(ax)
    at = (series.steps[-1], series.last)
    ax.annotate(f"{series.last:,.4g}", at, (4, 4), textcoords="offset points")
    ax.set_ylabel("validation perplexity")
    step_axis(ax)
    return canvas


def terms(history: History, config: Config) -> Canvas:
    names = history.names("train/loss/*")
    canvas, axes = panels(len(names))
    for ax, name in zip(axes, names, strict=True):
        noisy_line(ax, history[name], PALETTE[0])
        ax.set_title(name.removeprefix("train/loss/").replace("_", " "))
        step_axis(ax)
    axes[0].set_ylabel("added to the loss")
    return canvas


def rates(history: History, config: Config) -> Canvas:
    canvas, (ax,) = panels(1, size=(7.5, 2.9))
    groups = merged(
        (name.removeprefix("train/lr/"), history[name]) for name in history.names("train/lr/*")
    )
    for i, (label, series) in enumerate(groups):
        line(ax, series, label=label, color=colour(i, len(groups)))
    ax.set_ylabel("learning rate")
    ax.set_ylim(bottom=0)
    step_axis(ax)
    legend(ax)
    return canvas


def gradients(history: History, config: Config) -> Canvas:
    canvas, (ax,) = panels(1, size=(7.5, 3.2))
    noisy_line(ax, history["train/grad_norm"], "#777777", "all together")
    names = history.names("train/diagnostics/grad_norm/*")
    for i, name in enumerate(names):
        label = name.removeprefix("train/diagnostics/grad_norm/")
        line(ax, history[name], label=label, color=colour(i, len(names)))
    ax.set_ylabel("norm of the gradient, before clipping")
    log_axis(ax)
    step_axis(ax)
    legend(ax)
    return canvas


def movement(history: History, config: Config) -> Canvas:
    canvas, (ax,) = panels(1, size=(7.5, 3.0))
    prefix = "train/diagnostics/update_norm/"
    names = history.names(f"{prefix}*")
    for i, name in enumerate(names):
        update, param = history[name], history[name.replace("update_norm", "param_norm")]
        steps, of, by = np.intersect1d(update.steps, param.steps, return_indices=True)
        series = Series(steps, update.values[of] / param.values[by].clip(1e-30))
        line(ax, series, label=name.removeprefix(prefix), color=colour(i, len(names)))
    ax.set_ylabel("norm of the update / of the parameters")
    log_axis(ax)
    step_axis(ax)
    legend(ax)
    return canvas


def speed(history: History, config: Config) -> Canvas:
    shown = [
        (name, label)
        for name, label in (
            ("train/steps_per_second", "steps per second"),
            ("train/items_per_second", "items per second"),
        )
        if name in history
    ]
    canvas, axes = panels(len(shown), columns=2, size=(4.0, 2.6))
    for ax, (name, label) in zip(axes, shown, strict=True):
        line(ax, history[name], color=PALETTE[2])
        ax.set_ylabel(label)
        ax.set_ylim(bottom=0)
        step_axis(ax)
    return canvas


def merged(series: Iterable[tuple[str, Series]]) -> list[tuple[str, Series]]:
    """Equal series under one label: drawn apart, they would hide one another."""
    groups: dict[bytes, tuple[list[str], Series]] = {}
    for name, one in series:
        key = one.steps.tobytes() + one.values.tobytes()
        groups.setdefault(key, ([], one))[0].append(name)
    return [(", ".join(names), one) for names, one in groups.values()]


FIGURES = [
    Figure(
        "loss", "Loss",
        "Training loss with all its terms, and the loss on the validation split. Dashed: "
        "predictors without a network on the same split.",
        ("train/loss",), loss,
    ),
    Figure(
        "perplexity", "Perplexity", "exp(validation loss).", ("validation/perplexity",),
        perplexity,
    ),
    Figure(
        "loss_terms", "Terms of the loss", "What training adds up, each on a scale of its own.",
        ("train/loss/*",), terms,
    ),
    Figure(
        "learning_rates", "Learning rates", "By group of parameters.", ("train/lr/*",), rates,
    ),
    Figure(
        "gradient_norms", "Gradient norms",
        "Of all parameters together, and where diagnostics were due of each group.",
        ("train/grad_norm",), gradients,
    ),
    Figure(
        "update_sizes", "Size of the updates",
        "How far a step moves each group of parameters, relative to their size.",
        ("train/diagnostics/update_norm/*", "train/diagnostics/param_norm/*"), movement,
    ),
    Figure(
        "speed", "Speed",
        "Evaluation left out; the first value includes compilation.",
        ("train/steps_per_second",), speed,
    ),
]
