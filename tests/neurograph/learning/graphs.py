"""Small graphs, and images of three patterns under noise."""

import jax
import numpy as np

from jaxgraph.neurograph.config import Cell, Graph, Learning
from jaxgraph.neurograph.learning.fixed import Pairs
from jaxgraph.neurograph.learning.network import Network
from jaxgraph.neurograph.learning.task import LearningTask
from jaxgraph.train.config import Schedule

SIDE, CLASSES = (8, 8), 3
GRAPH = Graph(widths=(4, 5), patch=3, stride=2)
KINDS = {
    "real": (GRAPH, Cell()),
    "phasor": (Graph(widths=(4, 5), patch=3, stride=2, radiation=2), Cell(kind="phasor")),
    "radiation": (Graph(widths=(4, 5), patch=3, stride=1, radiation=3), Cell(input="phase")),
    "sparse": (Graph("sparse", widths=(20, 12), fan_in=9), Cell(kind="phasor")),
    "coarse": (GRAPH, Cell(kind="phasor", input="phase", phase_bins=16, mag_bins=32)),
}


def network(kind="real"):
    return Network(*KINDS[kind], SIDE, CLASSES)


def images(count, seed=0):
    """Images and their labels."""
    patterns = np.random.default_rng(7).integers(0, 2, (CLASSES, *SIDE))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count).astype(np.int32)
    noisy = 200 * patterns[labels] + rng.normal(0, 60, (count, *SIDE))
    return np.clip(noisy, 0, 255).astype(np.uint8), labels


def batch(count=16, seed=0):
    pixels, labels = images(count, seed)
    return {"image": pixels, "label": labels, "mask": np.ones(count, np.float32)}


class Source:
    side, classes = SIDE, CLASSES


def task(learning=None, steps=60, every=0):
    learning = learning or Learning(graph=GRAPH)
    every = every or 10**9
    return LearningTask(learning, source=Source(), total_steps=steps, diagnostics_every=every)


def params(net, seed=0):
    """Random indices without compiling an initialiser."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    draw = lambda shape, n: rng.integers(0, n, shape.shape).astype(np.int16)  # noqa: E731
    return {
        name: {
            kind: Pairs(draw(pair.phase, net.cell.phase_bins), draw(pair.mag, net.cell.mag_bins))
            for kind, pair in of.items()
        }
        for name, of in shapes.items()
    }


CONSTANT = Schedule("constant")
