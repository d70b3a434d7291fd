"""The faithful task: integers stay integers, steps compile once, options do what they say."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.errors import UserError
from jaxgraph.neurograph.config.faithful import (
    Accumulate,
    Adapter,
    Balance,
    Dynamics,
    Faithful,
    Graph,
    Rule,
)
from jaxgraph.neurograph.faithful.task import FaithfulTask, complete

CONFIG = Faithful(
    graph=Graph(60, 8, 5, 4, seed=7), dynamics=Dynamics(top_k=3, max_timesteps=8),
    width=4, phase_bins=64, mag_bins=128, adapter=Adapter(hidden=(7, 6)),
)  # fmt: skip
RNG = np.random.default_rng(2)
BATCH = {
    "image": RNG.integers(0, 256, (6, 3, 4)).astype(np.uint8),
    "label": RNG.integers(0, 10, 6).astype(np.int32),
    "mask": np.array([1, 1, 1, 1, 1, 0], np.float32),
}


class Source:
    inputs, classes = 12, 10

    def batches(self, split, seed):
        return []

    def describe(self):
        return {}


def make(**rule):
    config = replace(CONFIG, rule=Rule(**rule))
    return FaithfulTask(config, source=Source(), total_steps=9, diagnostics_every=2, seed=0)


@pytest.fixture(scope="module")
def task():
    return make()


@pytest.fixture(scope="module")
def step(task):
    return jax.jit(task.train_step)


@pytest.fixture(scope="module")
def state(task):
    return task.init(jax.random.key(3))


def test_a_step_moves_outputs_by_at_most_two_bins_and_nothing_else(state, step):
    one = {name: value[:1] for name, value in BATCH.items()}
    new, metrics = step(state, None, one)
    assert metrics["activity/answered"] == 1
    for name, bins in (("phase", 64), ("mag", 128)):
        before, after = (np.asarray(s.params["nodes"][name]) for s in (state, new))
        assert after.dtype == np.int32 and after.min() >= 0 and after.max() < bins
        moved = np.minimum(np.abs(after - before), bins - np.abs(after - before))
        assert moved[:-5].max() == 0 and 0 < moved[-5:].max() <= 2
    for key in ("codes", "adapter"):
        same = jax.tree.map(lambda a, b: bool((a == b).all()), state.params[key], new.params[key])
        assert all(jax.tree.leaves(same))


def test_padding_is_not_learned(state, step):
    other = {name: value.copy() for name, value in BATCH.items()}
    other["image"][5] = 0
    other["label"][5] = 0
    a, b = step(state, None, BATCH), step(state, None, other)
    np.testing.assert_array_equal(a[0].params["nodes"]["mag"], b[0].params["nodes"]["mag"])
    assert a[1]["loss"] == b[1]["loss"] and a[1]["items"] == 5
    assert a[0].extra["samples"] == 5


def test_diagnostics_come_when_due(state, step):
    new, first = step(state, None, BATCH)
    _, second = step(new, None, BATCH)
    assert np.isnan(first["gradient/phase_norm"]) and second["gradient/phase_norm"] > 0
    assert step._cache_size() <= 2  # one program for each size of batch


def test_the_label_does_not_reach_the_parameters(state, step):
    """Defect D1 of the rule: it is kept."""
    wrong = BATCH | {"label": (BATCH["label"] + 3) % 10}
    a, b = step(state, None, BATCH)[0], step(state, None, wrong)[0]
    np.testing.assert_array_equal(a.params["nodes"]["phase"], b.params["nodes"]["phase"])


def test_accumulation_lets_every_active_node_and_the_label_count(state):
    task = make(accumulate=Accumulate(steps=5, rate=5.0))
    start = task.init(jax.random.key(3))
    step = jax.jit(task.train_step)
    new, metrics = step(start, None, BATCH)
    assert metrics["activity/answered"] == 1
    moved = np.asarray(new.params["nodes"]["phase"] != start.params["nodes"]["phase"]).any(1)
    assert moved[:-5].any()
    wrong = BATCH | {"label": (BATCH["label"] + 3) % 10}
    other, _ = step(start, None, wrong)
    assert (new.params["nodes"]["phase"] != other.params["nodes"]["phase"]).any()
    assert new.extra["buffer"].count.sum() == 0
    four = BATCH | {"mask": np.array([1, 1, 1, 1, 0, 0], np.float32)}
    waiting, _ = step(start, None, four)
    changed = np.asarray(waiting.params["nodes"]["phase"] != start.params["nodes"]["phase"])
    assert not changed[:-5].any() and waiting.extra["buffer"].count.sum() > 0


def test_balancing_counts_over_the_samples_of_a_batch(state, step):
    """Each output may be active of itself once; then only the one that is forced."""
    balanced = make(balance=Balance("round_robin", max_activations=1))
    _, found = jax.jit(balanced.train_step)(state, None, BATCH)
    _, free = step(state, None, BATCH)
    assert found["activity/answered"] == 1
    assert found["activity/outputs"] <= (5 + 4) / 5 < free["activity/outputs"]


def test_evaluation_leaves_padding_out_and_repeats(task, state):
    evaluate = jax.jit(task.eval_step)
    found = evaluate(state, None, BATCH)
    other = BATCH | {"label": np.append(BATCH["label"][:5], 9).astype(np.int32)}
    again = evaluate(state.replace(key=jax.random.key(8)), None, other)
    assert found["weight"] == 5 and {k: float(v) for k, v in found.items()} == {
        k: float(v) for k, v in again.items()
    }


def test_floats_are_taken_as_they_are(task, state):
    as_float = BATCH | {"image": (BATCH["image"] / 255).astype(np.float32)}
    a, b = (task.encode(state.params, batch, None) for batch in (BATCH, as_float))
    np.testing.assert_array_equal(a.phase, b.phase)
    dropped = task.encode(state.params, BATCH, jax.random.key(0))
    assert jnp.any(dropped.phase != a.phase)


def test_sizes_are_those_of_the_data():
    assert (make().config.adapter.pixels, make().config.classes) == (12, 10)
    # 12, 7, 6 and 64 values, two norms.
    assert make().describe()["adapter"].startswith(f"{13 * 7 + 8 * 6 + 7 * 64 + 26} floats")
    with pytest.raises(UserError, match="task.faithful.classes: got 9, but the data have 10"):
        complete(replace(CONFIG, classes=9), Source())


def test_a_graph_that_is_too_small_is_refused():
    [(key, text)] = Graph(nodes=12, inputs=8, outputs=5).problems()
    assert key == "nodes" and "at least 13" in text
