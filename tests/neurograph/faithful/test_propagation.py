"""Forward passes: loop, scan and batch agree; samples do not know each other; how they end."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.neurograph.config.faithful import Dynamics, Faithful, Graph
from jaxgraph.neurograph.faithful.cell import Indices
from jaxgraph.neurograph.faithful.propagation import forward, trace
from jaxgraph.neurograph.faithful.task import make_dynamics

CONFIG = Faithful(
    graph=Graph(80, 10, 4, 4, seed=5), dynamics=Dynamics(top_k=3, max_timesteps=9),
    width=3, phase_bins=64, mag_bins=128,
)  # fmt: skip
DYNAMICS = make_dynamics(CONFIG)
RNG = np.random.default_rng(1)
BATCH = 6


def draw(*shape):
    indices = (RNG.integers(0, bins, (*shape, 3)).astype(np.int32) for bins in (64, 128))
    return Indices(*indices)


NODES, INPUTS = Indices(*map(jnp.asarray, draw(80))), draw(BATCH, 10)


@pytest.fixture(scope="module")
def batched():
    return jax.jit(jax.vmap(lambda *x: forward(DYNAMICS, NODES, *x)))


@pytest.fixture(scope="module")
def alone():
    return jax.jit(lambda *x: trace(DYNAMICS, NODES, *x))


def same(a, b):
    """Equal where anything is active: what is left in other places means nothing."""
    np.testing.assert_array_equal(a.state.mask, b.state.mask)
    for name in ("phase", "mag", "strength"):
        x, y = (np.asarray(getattr(z.state, name))[np.asarray(z.state.mask)] for z in (a, b))
        np.testing.assert_allclose(x, y, atol=1e-5)
    assert a.timesteps == b.timesteps


def test_a_batch_equals_its_samples_in_any_order(batched, alone):
    found = batched(*INPUTS)
    order = RNG.permutation(BATCH)
    again = batched(*(x[order] for x in INPUTS))
    for i in range(BATCH):
        single, _ = alone(*(x[i] for x in INPUTS))
        same(jax.tree.map(lambda x, i=i: x[i], found), single)
        place = int(np.flatnonzero(order == i)[0])
        same(jax.tree.map(lambda x, i=place: x[i], again), single)
    assert len({int(x) for x in found.state.mask.sum(1)}) > 1


def test_passes_end_at_the_first_answer_after_enough_steps(alone):
    for i in range(BATCH):
        passed, states = alone(*(x[i] for x in INPUTS))
        mask, steps = np.asarray(states.mask), int(passed.timesteps)
        answered = (mask & DYNAMICS.topology.is_output).any(1)
        assert steps >= DYNAMICS.min_timesteps or not passed.state.mask.any()
        assert not answered[DYNAMICS.min_timesteps : steps].any()


def test_a_pass_without_answer_ends_at_the_limit():
    silent = replace(DYNAMICS, min_timesteps=99)
    passed = jax.jit(lambda *x: forward(silent, NODES, *x))(*(x[0] for x in INPUTS))
    assert passed.timesteps == CONFIG.dynamics.max_timesteps - 1


def test_nothing_is_left_of_inputs_that_send_nothing():
    """Inputs have no sources, so upstream they have nobody to send to but by radiation."""
    deaf = replace(DYNAMICS, top_k=0)
    passed = jax.jit(lambda *x: forward(deaf, NODES, *x))(*(x[0] for x in INPUTS))
    assert not passed.state.mask.any() and passed.timesteps == 1
