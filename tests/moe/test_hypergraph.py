"""Coupling: the dense operator against slow loops, and a graph that acts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.moe.config import Hypergraph
from jaxgraph.moe.hypergraph import (
    Coupler,
    incidence,
    original_operator,
    pool_original,
    trace_original,
    weighted_operator,
)
from tests.moe import models


def edges_of(nodes, strategy):
    size = {"pairs": 2, "triplets": 3, "all": nodes}[strategy]
    return list(itertools.combinations(range(nodes), size))


def loop_convolution(features, edges, weights, levels):
    """One convolution of one token, [n, d], edge by edge and node by node."""
    messages = []
    for edge in edges:
        inside = sorted(levels[n] for n in edge)
        active = sum(inside[:-1]) / (len(edge) - 1) if len(edge) > 1 else inside[0]
        total = sum(inside)
        mean = sum(levels[n] * features[n] for n in edge) / total if total else 0 * features[0]
        messages.append((active, mean))
    out = np.zeros_like(features)
    for node in range(len(features)):
        around = [
            (weight * active * levels[node], mean)
            for edge, weight, (active, mean) in zip(edges, weights, messages, strict=True)
            if node in edge
        ]
        degree = sum(factor for factor, _ in around)
        if degree:
            out[node] = sum(factor * mean for factor, mean in around) / degree
    return out


@pytest.mark.parametrize("strategy", ["pairs", "triplets", "all"])
@pytest.mark.parametrize("levels", [[1, 1, 1, 1, 1], [1, 1, 1, 0.4, 0], [1, 1, 1, 0, 0]])
def test_weighted_operator_equals_the_loop_over_edges(strategy, levels):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 7)).astype(np.float32)
    edges = edges_of(5, strategy)
    weights = rng.uniform(0.2, 3, size=len(edges)).astype(np.float32)
    operator = weighted_operator(
        incidence(5, strategy), jnp.asarray(weights), jnp.asarray(levels, jnp.float32)
    )
    expected = loop_convolution(features, edges, weights, levels)
    np.testing.assert_allclose(operator @ features, expected, atol=2e-6)
    asleep, operator = np.array(levels) == 0, np.asarray(operator)
    assert (operator[asleep] == 0).all() and (operator[:, asleep] == 0).all()


@pytest.mark.parametrize("strategy", ["pairs", "triplets", "all"])
def test_original_operator_has_the_entries_of_the_specification(strategy):
    count, size = 5, {"pairs": 2, "triplets": 3, "all": 5}[strategy]
    operator = original_operator(count, count + 2, strategy)
    expected = np.full((count, count), (size - 1) / (size * (count - 1)))
    np.fill_diagonal(expected, 1 / size)
    np.testing.assert_allclose(operator[:count, :count], expected, atol=1e-7)
    assert (operator[count:] == 0).all() and (operator[:, count:] == 0).all()


@pytest.mark.parametrize("strategy", ["pairs", "triplets", "all"])
def test_closed_form_equals_the_mean_over_all_nodes(strategy):
    model, params, _ = models.make(
        "hgnn original", hypergraph=Hypergraph(strategy, convolutions=3, operator="original")
    )
    x = jax.random.normal(jax.random.key(3), (5, 2, 4, 16))
    coupler = Coupler(model.config.hypergraph, 5, 7, 16, jnp.float32)
    coupling = coupler.apply({"params": params["layer_0"]["coupler"]}, method="coupling")
    pooled = pool_original(coupling, strategy, x, 7)
    nodes = trace_original(coupling, strategy, x, 7)[-1]
    assert nodes.shape == (2, 4, 7, 16)
    np.testing.assert_allclose(pooled, nodes.mean(2), atol=2e-5)


def test_strategy_and_weights_change_the_output_of_ours_and_not_of_the_seeds():
    def output(operator, strategy, scale):
        model, params, _ = models.make(
            "hgnn pairs", num_experts=4, hypergraph=Hypergraph(strategy, operator=operator)
        )
        for layer in ("layer_0", "layer_1"):
            raw = params[layer]["coupler"]["hyperedge_weights"]
            ramp = jnp.linspace(-1, 1, raw.size) if raw.size > 1 else jnp.ones(1)
            params[layer]["coupler"]["hyperedge_weights"] = scale * ramp
        return models.logits(model, params, models.tokens())

    ours = output("weighted", "pairs", 0.0)
    assert np.abs(ours - output("weighted", "triplets", 0.0)).max() > 1e-3
    assert np.abs(ours - output("weighted", "pairs", 2.0)).max() > 1e-3
    # Finding D7: whatever the edges or weights, the seed's coupler computes the same.
    seeds = output("original", "pairs", 0.0)
    np.testing.assert_allclose(seeds, output("original", "triplets", 2.0), atol=1e-5)


def test_sleeping_ghosts_leave_the_primaries_as_they_were():
    """Levels 0 must give the numbers of the same model without ghosts, weights included."""
    model, params, ghosts = models.make("ghost asleep")
    awake = models.logits(model, params, models.tokens(), ghosts)
    bare, _, _ = models.make("hgnn pairs")
    kept = jax.tree.map(lambda x: x, params)
    pairs = edges_of(5, "pairs")
    among_primaries = [i for i, edge in enumerate(pairs) if max(edge) < 3]
    for layer in ("layer_0", "layer_1"):
        del kept[layer]["ghosts"]
        coupler = kept[layer]["coupler"]
        coupler["hyperedge_weights"] = coupler["hyperedge_weights"][jnp.array(among_primaries)]
        coupler["gate"]["bias"] = coupler["gate"]["bias"][:3]
    np.testing.assert_allclose(awake, models.logits(bare, kept, models.tokens()), atol=2e-6)


def test_levels_move_the_output_continuously():
    model, params, ghosts = models.make("ghost asleep")

    def at(level):
        state = ghosts.replace(levels=jnp.full((2, 2), level))
        return models.logits(model, params, models.tokens(), state)

    asleep, barely, half = at(0.0), at(1e-4), at(0.5)
    assert 0 < np.abs(asleep - barely).max() < 2e-3
    assert np.abs(asleep - half).max() > 1e-2
