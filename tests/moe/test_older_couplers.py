"""The seed's older couplers against slow loops, and their ghosts."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.interop.cases import moe_triple
from jaxgraph.moe.config import Ghosts, Hypergraph
from jaxgraph.moe.hypergraph import Coupler
from jaxgraph.moe.pairwise import PairwiseCoupler, hear, pool_pairwise
from jaxgraph.moe.triple import PARTS, TripleCoupler, part_shares, pool_triple
from tests.moe import models

erf = np.vectorize(math.erf)


def gelu(x):
    return x * (1 + erf(x / math.sqrt(2))) / 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer_norm(x, scale, bias):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * scale + bias


def loop_round(nodes, messages, levels):
    """What a round adds to the nodes of one token, [n, d], message by message."""
    width = nodes.shape[1]
    (kernel, bias), added = messages.gate, []
    for i, receiver in enumerate(nodes):
        heard = np.zeros(width)
        for j, sender in enumerate(nodes):
            if i != j:
                score = kernel @ np.concatenate([receiver, sender]) + bias[0]
                weight = levels[j] * sigmoid(messages.adjacency[i, j]) * sigmoid(score)
                heard += weight * sender
        (to, to_bias), (own, own_bias) = messages.neighbour, messages.own
        added.append(gelu(heard @ to + to_bias + receiver @ own + own_bias))
    return np.stack(added)


def coupled(kind, operator, nodes):
    """A coupler of three primaries and two ghosts, its parameters, and features of all nodes."""
    model, params, _ = models.make(f"ghost {operator}")
    coupler = kind(model.config.hypergraph, 3, 5, 16, jnp.float32)
    params = params["layer_0"]["coupler"]
    features = jax.random.normal(jax.random.key(5), (nodes, 1, 2, 16))
    return coupler, params, features


@pytest.mark.parametrize("levels", [[1, 1, 1, 1, 1], [1, 1, 1, 0.4, 0]])
def test_pairwise_equals_the_loop_over_messages(levels):
    coupler, params, features = coupled(PairwiseCoupler, "pairwise", 5)
    coupling = coupler.apply({"params": params}, method="coupling")
    levels = jnp.asarray(levels, jnp.float32)
    plain = jax.tree.map(lambda x: np.asarray(x, np.float64), coupling)
    slow = np.moveaxis(np.asarray(features, np.float64)[:, 0], 1, 0)
    first = np.stack([loop_round(token, plain[0], levels) for token in slow])
    found = hear(coupling[0], features, levels)[:, 0]
    np.testing.assert_allclose(np.moveaxis(found, 1, 0), first, atol=2e-6)
    for messages in plain:
        slow = slow + np.stack([loop_round(token, messages, levels) for token in slow])
    expected = np.einsum("n,tnd->td", levels / levels.sum(), slow)
    np.testing.assert_allclose(pool_pairwise(coupling, features, levels)[0], expected, atol=5e-6)


def test_triple_equals_its_three_couplers():
    coupler, params, features = coupled(TripleCoupler, "triple", 5)
    triple = coupler.apply({"params": params}, method="coupling")
    config, levels = Hypergraph(), jnp.array([1, 1, 1, 0.8, 0.3])
    parts = {"primary": slice(0, 3), "ghost": slice(3, 5), "mixed": slice(0, 5)}
    share = np.exp(np.asarray(params["mix"], np.float64)) * [1, 0.3, 0.8]
    expected = 0
    for weight, (name, part) in zip(share / share.sum(), parts.items(), strict=True):
        size = part.stop - part.start
        alone = Coupler(config, size, size, 16, jnp.float32)
        expected += weight * alone.apply(
            {"params": params[name]}, features[part], levels[part], method="couple"
        )
    np.testing.assert_allclose(pool_triple(triple, features, levels), expected, atol=2e-6)
    # Asleep, and with the primaries alone: the first part and nothing else.
    asleep = levels.at[3:].set(0)
    primary = Coupler(config, 3, 3, 16, jnp.float32).apply(
        {"params": params["primary"]}, features[:3], levels[:3], method="couple"
    )
    np.testing.assert_allclose(pool_triple(triple, features, asleep), primary, atol=2e-6)
    np.testing.assert_array_equal(pool_triple(triple, features[:3], asleep), primary)


def test_parts_appear_as_ghosts_wake():
    shares = lambda *ghosts: part_shares(jnp.zeros(3), jnp.array(ghosts)).tolist()  # noqa: E731
    assert shares(0.0, 0.0) == [1, 0, 0]
    np.testing.assert_allclose(shares(0.0, 1.0), [0.5, 0, 0.5])
    np.testing.assert_allclose(shares(0.25, 0.5, 0.0), [1 / 1.75, 0.25 / 1.75, 0.5 / 1.75])
    np.testing.assert_allclose(shares(1.0, 1.0), [1 / 3] * 3, rtol=1e-6)


@pytest.mark.parametrize("operator", ["pairwise", "triple"])
def test_ghosts_join_by_their_levels(operator):
    """Level 0 has no gradient and no say; a little of it changes little, much of it much."""
    model, params, ghosts = models.make(f"ghost {operator}", num_layers=1)
    ids = models.tokens()

    @jax.jit
    def run(levels):
        def score(params):
            hidden = model.apply({"params": params}, ids, ghosts.replace(levels=levels)).hidden
            return hidden[..., 0].sum(), hidden

        grads, hidden = jax.grad(score, has_aux=True)(params)
        return hidden, grads["layer_0"]["ghosts"]["up"]["kernel"]

    ghosts = ghosts.replace(**{
        field: getattr(ghosts, field)[:1] for field in ("levels", "phase", "window", "filled")
    })
    (asleep, none), (barely, _), (half, some) = (
        run(jnp.array([[level, 0.0]])) for level in (0.0, 1e-4, 0.5)
    )
    assert (np.asarray(none) == 0).all()
    assert np.abs(some[0]).sum() > 0 and (np.asarray(some[1]) == 0).all()
    assert 0 < np.abs(asleep - barely).max() < 2e-3 < 1e-2 < np.abs(asleep - half).max()


def test_triple_needs_ghosts_to_couple():
    operator = Hypergraph("triplets", operator="triple")
    config = models.small_config(mode="ghost", ghosts=Ghosts(count=2), hypergraph=operator)
    [(key, message)] = config.problems()
    assert key == "hypergraph.operator" and "ghosts.count at least 3" in message
    assert not list(models.small_config(mode="gnn", hypergraph=operator).problems())


def original_triple(seed=0, width=8):
    """Tensors of the original's triple coupler, by names that the specification leaves open."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    tensors = {"coupling_weights": draw(3)}
    for part in PARTS:
        names = {"hyperedge_weights": draw(1)}
        for j in range(2):
            names[f"hgnn_layers_module.{j}.lin.weight"] = draw(width, width) / 3
            names[f"hgnn_layers_module.{j}.bias"] = draw(width)
        names |= {"combiner.0.weight": draw(width, width), "combiner.0.bias": draw(width)}
        names |= {"combiner.2.weight": draw(width), "combiner.2.bias": draw(width)}
        tensors |= {f"{part}_coupler.{name}": tensor for name, tensor in names.items()}
    return tensors, draw(5, 1, 2, width)


def test_the_originals_triple_equals_the_loop_over_nodes():
    tensors, outputs = original_triple()

    def convolve(nodes, part, j):
        """D⁻¹ H B⁻¹ Hᵀ X Θ + b with one edge of weight w: D = w, B = number of nodes."""
        weight = tensors[f"{part}_coupler.hyperedge_weights"][0]
        theta = tensors[f"{part}_coupler.hgnn_layers_module.{j}.lin.weight"]
        bias = tensors[f"{part}_coupler.hgnn_layers_module.{j}.bias"]
        edge = sum(node @ theta.T for node in nodes) / len(nodes)
        return [edge / weight + bias for _ in nodes]

    def couple(part, nodes):
        for j in range(2):
            nodes = convolve(nodes, part, j)
        get = lambda name: tensors[f"{part}_coupler.combiner.{name}"]  # noqa: E731
        hidden = gelu(sum(nodes) / len(nodes) @ get("0.weight").T + get("0.bias"))
        return layer_norm(hidden, get("2.weight"), get("2.bias"))

    share = np.exp(tensors["coupling_weights"])
    share = share / share.sum()
    mix, parts = moe_triple.split_parts(tensors)
    for levels, present in (((0.5, 0.9), [1, 1, 1]), ((0.05, 0.9), [1, 0, 1]), ((0.05, 0.1), [1])):
        found = moe_triple.triple(mix, parts, jnp.asarray(outputs), levels)
        for t in range(2):
            token = outputs[:, 0, t].astype(np.float64)
            nodes = {"primary": token[:3], "ghost": token[3:], "mixed": token}
            terms = [couple(part, nodes[part]) for part in PARTS]
            expected = sum(s * p * x for s, p, x in zip(share, present, terms, strict=False))
            np.testing.assert_allclose(found[0, t], expected, atol=2e-5)


def test_a_triple_of_other_names_stays_unchecked():
    tensors, _ = original_triple()
    assert moe_triple.split_parts({}) is None
    without = {k: v for k, v in tensors.items() if k != "coupling_weights"}
    assert moe_triple.split_parts(without) is None
    renamed = {k.replace("mixed_coupler", "both_coupler"): v for k, v in tensors.items()}
    assert moe_triple.split_parts(renamed) is None
    pairs = tensors | {"primary_coupler.hyperedge_weights": np.ones(3, np.float32)}
    assert moe_triple.split_parts(pairs) is None
