"""The learning mode learns, from labels only; and a step is the same however it is run."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxgraph.neurograph.config import Cell, Learning, Loss, Optim
from jaxgraph.neurograph.learning.step import make_learn, shift_images
from jaxgraph.train.config import Parallel
from jaxgraph.train.parallel import batch_sharding, make_mesh
from jaxgraph.train.step import scan_steps
from tests.neurograph.learning import graphs

STEPS = 60


def stacked(permuted=False):
    batches = [graphs.batch(16, seed=i) for i in range(STEPS)]
    whole = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
    if permuted:
        order = np.random.default_rng(0).permutation(whole["label"].size)
        whole["label"] = whole["label"].ravel()[order].reshape(whole["label"].shape)
    return jax.tree.map(jnp.asarray, whole)


@functools.cache
def programs(learning):
    """The start, all steps in one call, the evaluation: compiled once for both kinds of labels."""
    task = graphs.task(learning, STEPS)
    start = jax.jit(task.init)(jax.random.key(0))
    return start, jax.jit(scan_steps(task.train_step, STEPS)), jax.jit(task.eval_step)


def accuracy(learning, permuted=False):
    start, train, evaluate = programs(learning)
    state, _ = train(start, None, stacked(permuted))
    return float(evaluate(state, None, graphs.batch(300, seed=1000))["accuracy"])


@pytest.mark.parametrize(("credit", "least"), [("through_graph", 0.9), ("local", 0.75)])
def test_it_learns_from_labels_and_from_nothing_else(credit, least):
    learning = Learning(graph=graphs.GRAPH, loss=Loss(credit=credit))
    assert accuracy(learning) > least
    assert accuracy(learning, permuted=True) < 0.55


def test_stochastic_rounding_learns_where_steps_below_half_a_bin_do_not():
    slow = Optim(lr=0.05, schedule=graphs.CONSTANT)
    coarse = Learning(graph=graphs.GRAPH, cell=Cell(phase_bins=16, mag_bins=16), optim=slow)
    assert accuracy(coarse) > 0.7
    nearest = replace(coarse, optim=replace(slow, rounding="nearest"))
    assert accuracy(nearest) < accuracy(coarse) - 0.1


@pytest.fixture(scope="module")
def start():
    task = graphs.task()
    return task, task.init(jax.random.key(1))


def test_indices_stay_integers_and_diagnostics_come_when_due(start):
    task, state = graphs.task(every=2), start[1]
    step = jax.jit(task.train_step)
    first, early = step(state, None, graphs.batch())
    second, due = step(first, None, graphs.batch(seed=1))
    for leaf, bins in zip(jax.tree.leaves(second.params), [512, 1024] * 5, strict=True):
        assert leaf.dtype == jnp.int16 and leaf.min() >= 0 and leaf.max() < bins
    costly = [name for name in due if name.startswith("diagnostics/")]
    assert all(np.isnan(early[name]) for name in costly)
    assert all(np.isfinite(due[name]) for name in costly)
    found = {name.removeprefix("diagnostics/"): float(due[name]) for name in costly}
    moved = {
        name: np.mean(np.concatenate([
            (np.asarray(a) != np.asarray(b)).ravel()
            for a, b in zip(*map(jax.tree.leaves, (first.params[name], second.params[name])),
                            strict=True)
        ]))
        for name in first.params
    }  # fmt: skip
    for name, share in moved.items():
        assert found[f"moved/{name}"] == pytest.approx(share, abs=1e-6)
        assert sum(found[f"phases/{name}/{i}"] for i in range(16)) == pytest.approx(1, abs=1e-5)
        assert found[f"descent_cosine/{name}"] > 0
    pixels = jnp.asarray(graphs.batch(seed=1)["image"])
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), first.params)
    states = task.network.run(task.network.values(first.params, zeros), pixels).states
    for i, state in enumerate(states):
        dead = int((np.asarray(state) == 0).all(0).sum())
        assert found[f"dead_nodes/layer_{i}"] == dead
        assert found[f"active_nodes/layer_{i}"] == pytest.approx(
            float((np.asarray(state) != 0).sum(1).mean()), rel=1e-5
        )


def test_eight_devices_see_the_same_scores_and_take_the_same_steps(start):
    task, state = start
    batch = graphs.batch(32)
    mesh = make_mesh(Parallel(data=8))
    spread = jax.device_put(batch, batch_sharding(mesh, 32))
    predict = jax.jit(task.predict)
    np.testing.assert_array_equal(
        predict(state.params, batch["image"]), predict(state.params, spread["image"])
    )
    alone, whole = jax.jit(task.train_step)(state, None, batch)
    learn = make_learn(task.network, task.config, task.schedule, diagnostics_every=0)
    mapped = jax.shard_map(
        lambda state, batch: learn(state, batch, task.rates), mesh=mesh,
        in_specs=(P(), P("data")), out_specs=P(), check_vma=False,
    )  # fmt: skip
    for other, metrics in (
        jax.jit(task.train_step)(state, None, spread), jax.jit(mapped)(state, spread)
    ):
        assert float(metrics["accuracy"]) == pytest.approx(float(whole["accuracy"]))
        assert float(metrics["loss"]) == pytest.approx(float(whole["loss"]), rel=1e-5)
        # A sum in another order may turn the rounding of a step that is a whole number but for
        # its last digit; so all but one in a thousand indices are asked to be the same.
        same = [
            np.asarray(a) == np.asarray(b)
            for a, b in zip(*map(jax.tree.leaves, (alone.params, other.params)), strict=True)
        ]
        assert np.concatenate([x.ravel() for x in same]).mean() > 0.999


def test_images_move_whole_and_background_fills_up():
    pixels = np.zeros((50, 5, 5), np.uint8)
    pixels[:, 2, 1] = np.arange(1, 51)
    moved = np.asarray(shift_images(jnp.asarray(pixels), 1, jax.random.key(0)))
    assert (moved.sum((1, 2)) == np.arange(1, 51)).all()
    places = {tuple(np.argwhere(image)[0]) for image in moved}
    assert places == {(i, j) for i in (1, 2, 3) for j in (0, 1, 2)}
