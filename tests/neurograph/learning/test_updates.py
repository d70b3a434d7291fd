"""Steps are whole bins, right in the mean, and go round the table."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.neurograph.learning.fixed import Pairs
from jaxgraph.neurograph.learning.updates import (
    Rates,
    init_moments,
    move,
    round_steps,
    steps_in_bins,
    update_moments,
)
from jaxgraph.neurograph.tables import make_tables

RATES = Rates(0.06, 0.9, 0.999, 1.0, 0.0)


def test_stochastic_rounding_is_right_in_the_mean_and_nearest_is_not():
    wanted = {"a": Pairs(jnp.full(20_000, 0.23), jnp.full(20_000, -2.6))}
    steps = round_steps(wanted, "stochastic", jax.random.key(0))["a"]
    assert set(np.unique(steps.phase)) == {0, 1} and set(np.unique(steps.mag)) == {-3, -2}
    np.testing.assert_allclose([steps.phase.mean(), steps.mag.mean()], [0.23, -2.6], atol=0.015)
    near = round_steps(wanted, "nearest", jax.random.key(0))["a"]
    assert (near.phase == 0).all() and (near.mag == -3).all()


def test_unit_steps_are_the_originals():
    wanted = Pairs(jnp.array([0.09, 0.1, -0.1, 7.0]), jnp.array([-0.0999, 0.0, -5.0, 0.2]))
    steps = round_steps(wanted, "unit", jax.random.key(0))
    assert steps.phase.tolist() == [0, 1, -1, 1] and steps.mag.tolist() == [0, 0, -1, 1]


def test_indices_wrap_and_stay_integers():
    params = Pairs(np.array([0, 15], np.int16), np.array([0, 31], np.int16))
    moved = move(params, Pairs(jnp.array([-1, 3]), jnp.array([-2, 1])), make_tables(16, 32))
    assert moved.phase.tolist() == [15, 2] and moved.mag.tolist() == [30, 0]
    assert moved.phase.dtype == jnp.int16


def test_the_first_step_is_the_rate_whatever_the_gradients_size():
    tables = make_tables(512, 1024)
    grads = {"a": Pairs(jnp.array([1e-6, -3.0, 0.0]), jnp.array([5.0, -1e-5, 0.0]))}
    moments = update_moments(init_moments(grads), grads, RATES)
    steps = steps_in_bins(moments, RATES, 0.06, 1.0, tables, 1e-12)["a"]
    bins = 0.06 * 512 / (2 * np.pi)
    np.testing.assert_allclose(steps.phase, [-bins, bins, 0], rtol=1e-4)
    np.testing.assert_allclose(steps.mag, [-0.06 * 1023 / (2 * np.pi), 9.7687, 0], rtol=1e-3)
