"""Findings about a trained graph: accuracy beside rivals, confusions, calibration, export."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxgraph.neurograph.config.learning import Evaluation
from jaxgraph.neurograph.export import read_model, write_model
from jaxgraph.neurograph.learning.credit import logits_of
from jaxgraph.neurograph.learning.integers import to_integer_model
from jaxgraph.neurograph.learning.network import Network
from jaxgraph.neurograph.learning.rivals import make_rivals, train_rival
from jaxgraph.neurograph.learning.step import make_predict
from jaxgraph.nn.intervals import wilson

ROWS = 500
PUBLISHED = (
    ("difflogic 6x1000", "6,000 gates", 0.84),
    ("hyperdimensional, 64 bits", "64 dimensions", 0.9112),
    ("brevitas TFC_1W1A", "59 k weights of 1 bit", 0.9317),
    ("Forward-Forward, 2x500", "floats", 0.9316),
    ("brevitas TFC_2W2A", "59 k weights of 2 bits", 0.9660),
    ("difflogic small", "48,000 gates", 0.9769),
    ("difflogic", "384,000 gates", 0.9847),
    ("brevitas LFC_1W1A", "2.9 M weights of 1 bit", 0.9888),
    ("LogicTreeNet-M", "566,000 gates", 0.9923),
)
"""Others' results on MNIST's test set (spec/peers.md, 3b)."""


def evaluate_graph(
    network: Network,
    params: Any,
    images: UInt8[np.ndarray, "n h w"],
    labels: Int[np.ndarray, " n"],
    *,
    training: tuple[np.ndarray, np.ndarray],
    config: Evaluation,
    temperature: float,
    ladder: bool,
) -> dict[str, Any]:
    """Findings for `scripts/evaluate.py`: sections by title.

    Args:
      training: images and labels for the rivals.
      ladder: whether the published results are of these images.
    """
    scores = score_images(network, params, images)
    classes, count = network.classes, count_integers(params)
    right = scores.argmax(1) == labels
    table = [_row("NeuroGraph", f"{count:,} integers", right)]
    shares = np.bincount(training[1], minlength=classes)
    table.append(_row("most frequent class", "chance", labels == shares.argmax()))
    if config.rivals:
        for rival in make_rivals(count, images[0].size, classes):
            classify = train_rival(rival, *training, classes, epochs=config.rival_epochs, seed=0)
            found = np.concatenate([classify(images[i : i + ROWS]) for i in _starts(images)])
            table.append(_row(rival.name, rival.numbers(images[0].size, classes), found == labels))
    if ladder:
        table += [
            {"model": f"{name} (published)", "size": size, "accuracy": share, "95 %": None}
            for name, size, share in PUBLISHED
        ]
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (labels, scores.argmax(1)), 1)
    logits = np.asarray(logits_of(network, jnp.asarray(scores))) / temperature
    return {
        "accuracy": table,
        "confusion": [
            {"true": str(i)} | {f"as {j}": int(confusion[i, j]) for j in range(classes)}
            for i in range(classes)
        ],
        **calibration(logits, labels, config.bins),
        "integer export": compare_export(network, params, images, scores),
    }


def score_images(
    network: Network, params: Any, images: UInt8[np.ndarray, "n h w"]
) -> Float[np.ndarray, "n k"]:
    """Scores of the jitted graph."""
    predict = jax.jit(make_predict(network))
    return np.concatenate([np.asarray(predict(params, images[i : i + ROWS]))
                           for i in _starts(images)])  # fmt: skip


def calibration(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], bins: int
) -> dict[str, Any]:
    """Confidence against accuracy in bins of equal width, and the expected calibration error (mean
    gap of the bins, weighted by their rows; Naeini et al. 2015)."""
    chances = np.asarray(jax.nn.softmax(jnp.asarray(logits), axis=1))
    sure, right = chances.max(1), chances.argmax(1) == labels
    at = np.minimum((sure * bins).astype(int), bins - 1)
    table, gap = [], 0.0
    for i in range(bins):
        inside = at == i
        if not inside.any():
            continue
        hits, rows = int(right[inside].sum()), int(inside.sum())
        mean = float(sure[inside].mean())
        gap += rows / len(labels) * abs(hits / rows - mean)
        table.append({
            "confidence": [i / bins, (i + 1) / bins], "rows": rows, "mean": mean,
            "accuracy": hits / rows, "95 %": list(wilson(hits, rows)),
        })  # fmt: skip
    return {"calibration": table, "expected calibration error": gap}


def compare_export(
    network: Network, params: Any, images: UInt8[np.ndarray, "n h w"], scores: np.ndarray
) -> dict[str, Any]:
    """Writes the integer model, reads it back and compares it with the jitted scores."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "graph.npz")
        size = write_model(path, to_integer_model(network, params))
        model = read_model(path)
    begun = time.monotonic()
    found = model.scores(images)
    seconds = time.monotonic() - begun
    agree = found.argmax(1) == scores.argmax(1)
    return {
        "images": len(images),
        "same class": int(agree.sum()),
        "same scores": int((found == scores).all(1).sum()),
        "bytes": size,
        "images a second (NumPy)": len(images) / seconds,
    }


def count_integers(params: Any) -> int:
    """Indices of all pairs."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def _row(name: str, size: str, right: np.ndarray) -> dict[str, Any]:
    hits, rows = int(right.sum()), len(right)
    return {"model": name, "size": size, "accuracy": hits / rows, "95 %": list(wilson(hits, rows))}


def _starts(images: np.ndarray) -> range:
    return range(0, len(images), ROWS)
