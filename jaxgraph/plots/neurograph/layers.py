"""Metrics of the layers of a graph."""

from jaxgraph.plots.history import History, Series

MEASURED = "train/diagnostics/"


def by_layer(history: History, name: str) -> dict[str, Series]:
    """Series of a metric by layer, in the order in which they were logged."""
    prefix = f"{MEASURED}{name}/"
    return {key.removeprefix(prefix): history[key] for key in history.names(f"{prefix}*")}


def by_place(history: History, name: str) -> dict[str, list[Series]]:
    """By layer: the series of its groups of nodes, or of the bars of its histogram."""
    found: dict[str, dict[int, Series]] = {}
    for key, series in by_layer(history, name).items():
        layer, _, place = key.rpartition("/")
        found.setdefault(layer, {})[int(place)] = series
    return {layer: [of[i] for i in sorted(of)] for layer, of in found.items()}
