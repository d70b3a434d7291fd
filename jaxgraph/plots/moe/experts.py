"""How much experts do, how alike they are, and how they are connected."""

import numpy as np
from matplotlib.figure import Figure as Canvas

from jaxgraph.config import Config
from jaxgraph.plots.figure import Figure, TooLittle
from jaxgraph.plots.history import History, Series
from jaxgraph.plots.marks import (
    CROWDED,
    heatmap,
    legend,
    level_line,
    line,
    noisy_line,
    panels,
    step_axis,
    timeline,
)
from jaxgraph.plots.moe.tables import (
    MEASURED,
    by_layer,
    latest,
    layer_panels,
    need_steps,
    node_names,
    together,
)
from jaxgraph.plots.style import DIVERGING, PALETTE, colour

LOAD = f"{MEASURED}experts/load"
OUTPUTS, WEIGHTS = "train/orthogonality/outputs", f"{MEASURED}orthogonality/specialization"
SQUARE = (3.3, 3.1)


def load(history: History, config: Config) -> Canvas:
    layers = by_layer(history, LOAD)
    canvas, axes = layer_panels(layers, sharey=True)
    for layer, ax in axes:
        values = [series.last for series in layers[layer].values()]
        names = node_names(len(values), config)
        shades = [PALETTE[1] if name.startswith("G") else PALETTE[0] for name in names]
        bars = ax.bar(names, values, color=shades, width=0.7)
        if len(values) <= CROWDED:
            ax.bar_label(bars, fmt="{:.2f}", fontsize=7, padding=1)
        else:
            ax.tick_params(axis="x", rotation=90)
        ax.grid(axis="x", visible=False)
        awake = sum(value > 0 for value in values)
        ax.axhline(1 / awake, linestyle="--", linewidth=1, color="#999999", zorder=0)
        step = max(series.steps[-1] for series in layers[layer].values())
        ax.set_title(f"layer {layer}, step {step}; dashed: equal shares")
    axes[0][1].set_ylabel("share of the updates")
    return canvas


def load_timeline(history: History, config: Config) -> Canvas:
    layers = by_layer(history, LOAD)
    high = max(series.values.max() for entries in layers.values() for series in entries.values())
    canvas, axes = layer_panels(layers, columns=2, size=(4.2, 2.5))
    for layer, ax in axes:
        series = list(layers[layer].values())
        image = timeline(ax, series, node_names(len(series), config), low=0.0, high=high)
    canvas.colorbar(image, ax=[ax for _, ax in axes], label="share of the updates")
    return canvas


def load_correlation(history: History, config: Config) -> Canvas:
    layers = by_layer(history, LOAD)
    canvas, axes = layer_panels(layers, size=SQUARE)
    for layer, ax in axes:
        need_steps(layers[layer], 3)
        _, values = together(layers[layer])
        with np.errstate(invalid="ignore", divide="ignore"):
            table = np.atleast_2d(np.corrcoef(values))
        # A node whose load never changes, such as a ghost asleep, correlates with nothing.
        still = values.std(1) < 1e-6
        table[still, :] = table[:, still] = np.nan
        names = node_names(len(values), config)
        image = heatmap(ax, table, names, low=-1.0, high=1.0, cmap=DIVERGING)
    canvas.colorbar(image, ax=[ax for _, ax in axes], label="correlation")
    return canvas


def evenness(history: History, config: Config) -> Canvas:
    loads, entropy = by_layer(history, LOAD), by_layer(history, f"{MEASURED}experts/entropy")
    special = by_layer(history, f"{MEASURED}experts/specialization")
    canvas, axes = panels(3, size=(3.5, 2.7))
    for i, layer in enumerate(entropy):
        shade, label = colour(i, len(entropy)), f"layer {layer}"
        line(axes[0], mean_entropy(loads[layer]), color=shade, label=label)
        line(axes[1], entropy[layer][()], color=shade)
        line(axes[2], special[layer][()], color=shade)
    for ax, title in zip(
        axes, ("entropy of the mean load", "entropy of a token's load", "specialisation"),
        strict=True,
    ):
        ax.set_title(title)
        ax.set_ylim(0, 1.04)
        step_axis(ax)
    axes[0].set_ylabel("relative to the largest value")
    canvas.legend(loc="outside right upper")
    return canvas


def mean_entropy(entries: dict[tuple[int, ...], Series]) -> Series:
    """Entropy of the mean loads over the logarithm of the number of awake nodes."""
    steps, shares = together(entries)
    logs = np.log(np.where(shares > 0, shares, 1))
    awake = np.maximum((shares > 0).sum(0), 2)
    return Series(steps, -(shares * logs).sum(0) / np.log(awake))


def similarity(history: History, config: Config) -> Canvas:
    layers = by_layer(history, f"{MEASURED}experts/similarity")
    canvas, axes = layer_panels(layers, size=SQUARE)
    for layer, ax in axes:
        table = latest(layers[layer])
        np.fill_diagonal(table, 1)
        names = node_names(len(table), config)
        image = heatmap(ax, table, names, low=-1.0, high=1.0, cmap=DIVERGING)
    canvas.colorbar(image, ax=[ax for _, ax in axes], label="cosine between updates")
    return canvas


def connections(history: History, config: Config) -> Canvas:
    return _connections(history, config, "connection", "summed weight of shared hyperedges")


def listening(history: History, config: Config) -> Canvas:
    return _connections(history, config, "listening", "how much the row hears of the column")


def _connections(history: History, config: Config, metric: str, label: str) -> Canvas:
    layers = by_layer(history, f"{MEASURED}hypergraph/{metric}")
    tables = {
        layer: latest(entries, symmetric=metric == "connection")
        for layer, entries in layers.items()
    }
    high = max(np.nanmax(table) for table in tables.values())
    canvas, axes = layer_panels(layers, size=SQUARE)
    for layer, ax in axes:
        names = node_names(len(tables[layer]), config)
        image = heatmap(ax, tables[layer], names, low=0.0, high=max(high, 1e-9))
    canvas.colorbar(image, ax=[ax for _, ax in axes], label=label)
    return canvas


def orthogonality(history: History, config: Config) -> Canvas:
    layers, outputs = by_layer(history, WEIGHTS), OUTPUTS in history
    if not (outputs or layers):
        raise TooLittle("the mode has no orthogonality loss")
    canvas, axes = panels(outputs + bool(layers), columns=2, size=(4.4, 2.8))
    if outputs:
        noisy_line(axes[0], history[OUTPUTS], PALETTE[0], "measured")
        if f"{OUTPUTS}_chance" in history:
            level_line(axes[0], history[f"{OUTPUTS}_chance"].last, "random directions")
        axes[0].set_title("what experts compute: mean squared cosine")
    if layers:
        for i, (layer, entries) in enumerate(layers.items()):
            line(axes[-1], entries[()], color=colour(i, len(layers)), label=f"layer {layer}")
        if f"{WEIGHTS}_chance" in history:
            level_line(axes[-1], history[f"{WEIGHTS}_chance"].last, "random weights")
        axes[-1].set_title("their weights: 1 - mean |cosine|")
        axes[-1].ticklabel_format(useOffset=False)
    for ax in axes:
        step_axis(ax)
        legend(ax)
    return canvas


FIGURES = [
    Figure(
        "expert_connections", "Connections of the hypergraph",
        "A(u, v): summed weights of the hyperedges that hold u and v, times how active the edge "
        "and its two members are; at the last measurement. Grey: nothing to measure.",
        (f"{MEASURED}hypergraph/connection/layer_*",), connections,
    ),
    Figure(
        "expert_listening", "Connections of the pairwise coupling",
        "How much each node listens to each other one, before the gate that depends on the token; "
        "at the last measurement.",
        (f"{MEASURED}hypergraph/listening/layer_*",), listening,
    ),
    Figure(
        "expert_load", "Expert load",
        "Share of the sizes of all updates that comes from each primary expert (E) and each ghost "
        "(G, times its level); mean over real tokens, at the last measurement.",
        (f"{LOAD}/layer_*",), load,
    ),
    Figure(
        "expert_load_timeline", "Expert load over time", "The same share at every measurement.",
        (f"{LOAD}/layer_*",), load_timeline,
    ),
    Figure(
        "expert_load_correlation", "Correlation of expert loads",
        "Over the measurements of the run. Negative: when one takes load, the other gives it up. "
        "Grey: a load that never changes.",
        (f"{LOAD}/layer_*",), load_correlation,
    ),
    Figure(
        "expert_evenness", "Evenness and specialisation",
        "Entropies relative to that of equal shares (1: all alike). The further a token's entropy "
        "lies below that of the mean load, the more tokens differ in who serves them; "
        "specialisation is the variance of the shares along a row, 1 at most.",
        (f"{LOAD}/layer_*", f"{MEASURED}experts/entropy/*", f"{MEASURED}experts/specialization/*"),
        evenness,
    ),
    Figure(
        "expert_similarity", "Similarity of experts",
        "Mean cosine between what two experts add to a token; at the last measurement. "
        "Grey: a ghost asleep.",
        (f"{MEASURED}experts/similarity/layer_*",), similarity,
    ),
    Figure(
        "orthogonality", "Orthogonality",
        "Of what experts compute, lower is more orthogonal; of their weights, higher is. Dashed: "
        "what random directions and random weights already reach.",
        ("train/*orthogonality/*",), orthogonality,
    ),
]
