"""Measures of experts against slow obvious computations; when they are made; how they add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.data.config import TextData
from jaxgraph.moe import connections, measures
from jaxgraph.moe.config import Ghosts, Moe, Optim, Orthogonality, Rotation, Router
from jaxgraph.moe.geometric import routed_terms
from jaxgraph.moe.ghosts import init_ghosts
from jaxgraph.moe.hypergraph import incidence
from jaxgraph.moe.task import MoeTask
from jaxgraph.train.state import new_state
from tests.moe import models

MASK = np.array([[1, 1, 0, 1, 1, 0, 0, 1, 1], [0, 1, 1, 0, 0, 0, 1, 1, 0]], np.float32)


def measure(model, params, ghosts, mask=MASK, due=True):
    """All tables of a pass over two rows, and the pass."""

    def run(params, ghosts, due):
        out = model.apply({"params": params}, models.tokens(), ghosts)
        return measures.measured(due, out.layers, params, model.config, jnp.asarray(mask)), out

    return jax.jit(run)(params, ghosts, jnp.asarray(due))


def updates_of(config, params, layers, i):
    """Block output less block input in the common frame, as the definition says."""
    layer = layers[i]
    return np.asarray(layer.outputs - layer.origins, np.float64)


@pytest.mark.parametrize("name", ["ghost awake", "routed by token, ghosts awake"])
def test_tables_equal_loops_over_tokens_and_nodes(name):
    model, params, ghosts = models.make(name)
    found, out = measure(model, params, ghosts)
    for i in range(2):
        updates = updates_of(model.config, params, out.layers, i)
        levels = np.concatenate([np.ones(3), ghosts.levels[i]])
        awake = [n for n in range(5) if levels[n] > 0]
        load, entropy, cosines, per_row = np.zeros(5), 0.0, np.zeros((5, 5)), []
        for row in range(2):
            shares = []
            for column in np.flatnonzero(MASK[row]):
                vectors = updates[:, row, column]
                sizes = [levels[n] * np.sqrt((vectors[n] ** 2).sum()) for n in range(5)]
                share = np.array(sizes) / sum(sizes)
                load += share
                entropy -= sum(share[n] * np.log(share[n]) for n in awake)
                shares.append(share)
                for u in awake:
                    for v in awake:
                        length = np.sqrt((vectors[u] ** 2).sum() * (vectors[v] ** 2).sum())
                        cosines[u, v] += vectors[u] @ vectors[v] / length
            per_row.append(np.var(shares, axis=0).sum() * len(shares))
        total = MASK.sum()
        at = lambda what, i=i: f"diagnostics/{what}/layer_{i}"  # noqa: E731
        for n in range(5):
            np.testing.assert_allclose(
                found[f"{at('experts/load')}/{n}"], load[n] / total, atol=1e-6
            )
        np.testing.assert_allclose(
            found[at("experts/entropy")], entropy / total / np.log(len(awake)), rtol=1e-5
        )
        np.testing.assert_allclose(
            found[at("experts/specialization")],
            sum(per_row) / total / (1 - 1 / len(awake)), rtol=1e-4,
        )
        for u in range(5):
            for v in range(u + 1, 5):
                value = found[f"{at('experts/similarity')}/{u}-{v}"]
                if u in awake and v in awake:
                    np.testing.assert_allclose(value, cosines[u, v] / total, atol=1e-5)
                else:
                    assert np.isnan(value)
        for g in range(2):
            assert found[f"{at('ghosts/level')}/{g}"] == ghosts.levels[i, g]
        if model.config.routed:
            angles = np.asarray(out.layers[i].angles)[:, MASK > 0].mean(1)
            for e, k in np.ndindex(*angles.shape):
                np.testing.assert_allclose(
                    found[f"{at('rotation/angle')}/{e}-{k}"], angles[e, k], atol=1e-6
                )


def test_ghosts_whose_turns_are_not_undone_start_from_their_own_frame():
    model, params, ghosts = models.make(
        "routed by token, ghosts awake", rotation=Rotation(angles="token", undo=False)
    )
    ghosts = ghosts.replace(levels=jnp.ones((2, 2)))
    # A ghost with the weights of an expert must do what that expert does.
    for i in range(2):
        layer = params[f"layer_{i}"]
        layer["ghosts"] = jax.tree.map(lambda a, b: b[:2], layer["ghosts"], layer["experts"])
        layer["rotation"] = jax.tree.map(lambda x: x.at[3:].set(x[:2]), layer["rotation"])
    found, _ = measure(model, params, ghosts)
    for i in range(2):
        assert found[f"diagnostics/experts/similarity/layer_{i}/0-3"] == pytest.approx(1, abs=1e-4)
        load = [found[f"diagnostics/experts/load/layer_{i}/{n}"] for n in range(5)]
        np.testing.assert_allclose(load[3:], load[:2], rtol=1e-4)
        assert abs(found[f"diagnostics/experts/similarity/layer_{i}/0-4"]) < 0.99


def test_specialization_is_that_of_the_loss_without_ghosts():
    model, params, _ = models.make("routed")
    found, out = measure(model, params, None)
    term = routed_terms(out.layers, model.config, jnp.asarray(MASK)).specialization
    mean = np.mean([found[f"diagnostics/experts/specialization/layer_{i}"] for i in range(2)])
    np.testing.assert_allclose(1 - mean, term, rtol=1e-5)


def test_nothing_is_measured_in_between():
    model, params, ghosts = models.make("ghost awake")
    found, _ = measure(model, params, ghosts, due=False)
    assert len(found) > 40 and all(np.isnan(value) for value in found.values())

    def run(params, ghosts, due):
        out = model.apply({"params": params}, models.tokens(), ghosts)
        return measures.measured(due, out.layers, params, model.config, jnp.asarray(MASK))

    def outside(jaxpr):
        """Primitives that run whatever `due` is."""
        for eqn in jaxpr.eqns:
            yield eqn.primitive.name
            for value in eqn.params.values():
                if eqn.primitive.name != "cond" and hasattr(value, "jaxpr"):
                    yield from outside(value.jaxpr)

    # Without dead code, no logarithm (of a share) stands outside the branches.
    traced = jax.make_jaxpr(run)(params, ghosts, jnp.asarray(True))
    assert "log" not in set(outside(traced.jaxpr))


def obvious_connections(strategy, weights, levels):
    edges = incidence(len(levels), strategy)
    table = np.zeros((len(levels), len(levels)))
    for m, weight in enumerate(weights):
        members = np.flatnonzero(edges[:, m])
        others = sorted(levels[n] for n in members)[:-1]
        for u in members:
            for v in members:
                if u != v:
                    table[u, v] += weight * np.mean(others) * levels[u] * levels[v]
    return table


@pytest.mark.parametrize("strategy", ["pairs", "triplets", "all"])
def test_connections_are_sums_of_the_weights_of_shared_hyperedges(strategy):
    rng = np.random.default_rng(3)
    levels = np.array([1, 1, 1, 0.4, 0], np.float32)
    weights = rng.uniform(0.2, 2, incidence(5, strategy).shape[1]).astype(np.float32)
    found = connections.edge_connections(
        incidence(5, strategy), jnp.asarray(weights), jnp.asarray(levels)
    )
    np.testing.assert_allclose(found, obvious_connections(strategy, weights, levels), atol=1e-6)


def test_each_operator_reports_the_connections_in_use():
    levels = jnp.array([1, 1, 1, 0.4, 0.0])
    model, params, ghosts = models.make("ghost awake")
    coupler = params["layer_0"]["coupler"]
    weights = np.log1p(np.exp(coupler["hyperedge_weights"]))
    found = connections.weighted_connections(coupler, model.config, levels)
    np.testing.assert_allclose(found, obvious_connections("pairs", weights, levels), atol=1e-6)

    model, params, _ = models.make("ghost pairwise")
    coupler = params["layer_0"]["coupler"]
    found = np.asarray(connections.pairwise_connections(coupler, model.config, levels))
    gates = [1 / (1 + np.exp(-np.asarray(coupler[f"round_{j}"]["adjacency"]))) for j in range(2)]
    np.testing.assert_allclose(found[0, 3], 0.4 * (gates[0][0, 3] + gates[1][0, 3]) / 2, rtol=1e-5)
    assert found[4].max() == found[:, 4].max() == found.diagonal().max() == 0

    model, params, _ = models.make("ghost triple")
    coupler = params["layer_0"]["coupler"]
    found = connections.triple_connections(coupler, model.config, levels)
    parts = {}
    for name, own in (("primary", slice(3)), ("ghost", slice(3, 5)), ("mixed", slice(5))):
        weights = np.log1p(np.exp(coupler[name]["hyperedge_weights"]))
        table = np.zeros((5, 5))
        table[own, own] = obvious_connections("pairs", weights, np.asarray(levels)[own])
        parts[name] = table
    share = np.exp(np.asarray(coupler["mix"])) * [1, 0, 0.4]  # the second ghost sleeps
    share /= share.sum()
    expected = sum(s * parts[name] for s, name in zip(share, parts, strict=True))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def names_of(name, **options):
    """Names of the measures of a model's layer, by group; nothing is computed."""
    model, params, ghosts = models.make(name, num_layers=1, **options)
    if ghosts is not None:
        ghosts = jax.tree.map(lambda x: x[:1], ghosts)
    found, _ = jax.eval_shape(lambda params: measure(model, params, ghosts), params)
    groups = {}
    for full in found:
        _, group, kind, _, *entry = full.split("/")
        groups.setdefault(f"{group}/{kind}", []).extend(entry)
    return groups


def test_big_tables_are_left_out_and_the_seeds_operator_has_no_connections():
    each = [str(n) for n in range(17)]
    assert names_of("hgnn original", num_experts=17) == {
        "experts/load": sorted(each), "experts/entropy": [], "experts/specialization": [],
    }
    pairs = ["0-1", "0-2", "0-3", "0-4", "1-2", "1-3", "1-4", "2-3", "2-4", "3-4"]
    found = names_of("routed by token, ghosts awake")
    assert found["hypergraph/connection"] == found["experts/similarity"] == pairs
    assert found["rotation/angle"][:5] == ["0-0", "0-1", "0-2", "0-3", "1-0"]
    assert len(names_of("ghost pairwise")["hypergraph/listening"]) == 5 * 4
    # Nothing reads the ghosts of the seed's operator, so they are not computed for this either.
    assert names_of("ghost original")["experts/load"] == ["0", "1", "2"]


def test_a_step_measures_when_due_and_micro_batches_add_up():
    config = models.small_config(
        mode="ghost", vocab_size=257, num_layers=1, ghosts=Ghosts(count=2),
        orthogonality=Orthogonality(0.0),
    )
    data = TextData(seq_len=16, batch_size=8, max_passages=60, packing="rows")
    results = []
    for parts in (1, 2):
        optim = Optim(loss_chunk=32, accumulate=parts)
        task = MoeTask(Moe(config, data, optim), total_steps=9, diagnostics_every=2, seed=0)
        batch = task.batches("train")[0]
        batch["mask"] *= np.arange(16)[None] < np.array([16, 1, 7, 0, 12, 3, 0, 0])[:, None]
        params = models.random_params(task.model)
        awake = init_ghosts(config).replace(levels=jnp.array([[0.6, 0.0]]))
        opt_state = task._optimizer.transform.init(params)
        state = new_state(params, opt_state, {"ghosts": awake}, jax.random.key(0))
        step = jax.jit(task.train_step)
        names = lambda metrics: [  # noqa: E731
            n for n in metrics if n.startswith(("diagnostics/experts", "diagnostics/hypergraph"))
        ]
        state, metrics = step(state, None, batch)
        assert names(metrics) and all(np.isnan(metrics[name]) for name in names(metrics))
        _, metrics = step(state, None, batch)
        results.append({name: metrics[name] for name in names(metrics)})
        assert results[-1]["diagnostics/experts/load/layer_0/3"] > 0
    # The first of the two steps already differs in the last bits.
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_every_presentation_is_measured():
    config = models.small_config(
        mode="gnn", vocab_size=0, num_layers=1, train_mode="geometric", num_experts=2
    )
    data = TextData(seq_len=16, batch_size=2, max_passages=60)
    task = MoeTask(
        Moe(config, data, Optim(loss_chunk=32)), total_steps=9, diagnostics_every=1, seed=0
    )
    state, batch = jax.jit(task.init)(jax.random.key(0)), task.batches("train")[0]
    _, metrics = jax.jit(task.train_step)(state, None, batch)
    run = jax.jit(lambda params, view: measures.measured(
        jnp.asarray(True),
        task.model.apply({"params": params}, jnp.asarray(batch["inputs"]), view=view).layers,
        params, config, jnp.asarray(batch["mask"]),
    ))
    views = [run(state.params, jnp.asarray(e)) for e in range(2)]
    for name in views[0]:
        mean = (views[0][name] + views[1][name]) / 2
        np.testing.assert_allclose(metrics[name], mean, rtol=1e-4, atol=1e-6, err_msg=name)


def test_routed_loads_count_what_is_added():
    """Dense routing computes all experts, grouped those chosen: the loads are the same."""
    model, params, _ = models.make("top-2 grouped")
    found, _ = measure(model, params, None)
    dense, _, _ = models.make("top-2 grouped", router=Router(2, implementation="dense"))
    expected, out = measure(dense, params, None)
    for i, layer in enumerate(out.layers):
        sizes = np.linalg.norm(np.asarray(layer.outputs - layer.origins), axis=-1)
        shares = np.moveaxis(np.asarray(layer.routing.shares), -1, 0) * sizes
        shares = (shares / shares.sum(0))[:, MASK > 0].mean(1)
        for e in range(3):
            name = f"diagnostics/experts/load/layer_{i}/{e}"
            np.testing.assert_allclose(expected[name], shares[e], atol=1e-6)
            np.testing.assert_allclose(found[name], shares[e], atol=1e-5)
    assert not any("similarity" in name for name in found)
