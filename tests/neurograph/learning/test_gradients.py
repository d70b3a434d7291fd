"""Gradients per bin against differences of the real loss, which moves integers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.neurograph.config import Cell, Graph, Learning, Loss
from jaxgraph.neurograph.learning.credit import local_logits, make_loss
from jaxgraph.neurograph.learning.network import Network
from jaxgraph.neurograph.learning.step import make_gradient
from jaxgraph.neurograph.learning.updates import Rates
from tests.neurograph.learning import graphs

# Fine arithmetic, and a gate above 1/e: below it a signal is rounded up to the smallest there is,
# which straight-through gradients do not know.
FINE = {"weight_bits": 7, "state_bits": 9, "threshold": 0.4, "window": 0.0}
SMALL = Graph(widths=(4, 5), patch=2, stride=2)
RATES = Rates(0.06, 0.9, 0.999, 1.0, 0.0)
MOVES = {"phase": (512, 8), "mag": (1024, 16)}
"""Bins, and how far an index is moved in either direction."""
CHECKED = 14


def correlations(kind, layers=None):
    """Of gradient and difference quotient, by layer, for phases and magnitudes; and how many
    indices went in. Left out are moves that open or close a gate: the loss jumps there."""
    net = Network(SMALL, Cell(kind=kind, **FINE), graphs.SIDE, graphs.CLASSES)
    params, batch = graphs.params(net, seed=3), graphs.batch(4)
    grads, _, _ = jax.jit(make_gradient(net, Learning(graph=SMALL)))(params, batch, RATES)
    losses, rng = make_loss(net, Loss()), np.random.default_rng(0)

    @jax.jit
    def look(params):
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params)
        pixels, labels = map(jnp.asarray, (batch["image"], batch["label"]))
        values, found = losses(zeros, params, pixels, labels, 1.0, 0.0)
        return values.mean(), [state != 0 for state in found.states]

    results = {}
    for name in layers or params:
        for field, (bins, far) in MOVES.items():
            edge = params[name]["edge"]
            slope = np.asarray(getattr(grads[name]["edge"], field)).ravel()
            pairs = []
            for place in rng.permutation(slope.size)[:CHECKED]:
                seen = []
                for step in (-far, far):
                    moved = getattr(edge, field).copy()
                    moved.flat[place] = (moved.flat[place] + step) % bins
                    changed = {"edge": edge._replace(**{field: moved})}
                    seen.append(look(params | {name: params[name] | changed}))
                (low, before), (high, after) = seen
                if all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)):
                    pairs.append((slope[place], float(high - low) / (2 * far)))
            results[name, field] = np.corrcoef(*np.array(pairs).T)[0, 1], len(pairs)
    return results


# Of a phasor sum beyond e only the magnitude saturates, which straight-through gradients take for
# the whole; so hidden layers of phasors follow the real loss in the mean over many nodes only.
@pytest.mark.parametrize(("kind", "layers"), [("real", None), ("phasor", ["readout"])])
def test_gradients_follow_differences_of_the_real_loss(kind, layers):
    for key, (value, count) in correlations(kind, layers).items():
        assert count >= 5 and value > (0.99 if key[0] == "readout" else 0.95), (key, value, count)


def test_local_credit_stops_between_layers_and_knows_the_labels():
    net = graphs.network()
    params, batch = graphs.params(net), graphs.batch()
    gradient = jax.jit(make_gradient(net, Learning(loss=Loss(credit="local"))))
    grads, _, _ = gradient(params, batch, RATES)
    through, _, found = jax.jit(make_gradient(net, Learning()))(params, batch, RATES)
    # The read-out has the same error either way; the hidden layers another one.
    same = lambda a, b: all(  # noqa: E731
        np.allclose(x, y, rtol=1e-4, atol=1e-9)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
    assert same(grads["readout"], through["readout"])
    assert not same(grads["layer_0"], through["layer_0"])
    # What later layers are does not matter to an earlier one.
    other = params | {"layer_1": graphs.params(net, 1)["layer_1"]}
    assert same(gradient(other, batch, RATES)[0]["layer_0"], grads["layer_0"])
    relabelled = batch | {"label": (batch["label"] + 1) % graphs.CLASSES}
    assert not same(gradient(params, relabelled, RATES)[0]["layer_0"], grads["layer_0"])
    assert local_logits(net, found, 0).shape == (16, graphs.CLASSES)


def test_padding_has_no_weight():
    net = graphs.network()
    params, batch = graphs.params(net), graphs.batch()
    gradient = jax.jit(make_gradient(net, Learning()))
    masked = batch | {"mask": (np.arange(16) < 9).astype(np.float32)}
    blotted = {name: np.where((np.arange(16) < 9).reshape(-1, *[1] * (x.ndim - 1)), x, 0)
               for name, x in masked.items()}  # fmt: skip
    first, second = (gradient(params, b, RATES)[0] for b in (masked, blotted))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)
    full = gradient(params, batch, RATES)[0]
    assert not np.allclose(full["readout"]["edge"].phase, first["readout"]["edge"].phase)
