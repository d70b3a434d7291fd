"""Balancing: who is silenced, who is forced and how often, and that nobody else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.neurograph.config.faithful import Balance
from jaxgraph.neurograph.faithful.activation import Activation
from jaxgraph.neurograph.faithful.balancing import balance, choose
from jaxgraph.neurograph.tables import make_tables

TABLES, NODES, WIDTH = make_tables(16, 32), 7, 3
OUTPUTS = np.array([4, 5, 6])
KEYS = jax.random.split(jax.random.key(0), 4000)
COUNTS = jnp.array([0, 1, 3, 0, 7])


def shares(**options):
    """How often each of five outputs is forced."""
    chosen = jax.vmap(lambda key: choose(Balance(**options), COUNTS, key))(KEYS)
    assert np.asarray(chosen).sum(1).max() <= 1
    return np.asarray(chosen).mean(0)


@pytest.mark.parametrize("options, expected", [
    ({"strategy": "quota"}, np.array([1, 1, 0, 1, 0]) / 12),  # three below 3, a quarter each time
    ({"strategy": "quota", "min_activations": 1, "force_probability": 1.0},
     np.array([1, 0, 0, 1, 0]) / 2),
    ({"strategy": "quota", "min_activations": 0}, np.zeros(5)),
    ({"strategy": "round_robin"}, np.array([1, 0, 0, 1, 0]) / 2),
    ({"strategy": "weighted"}, np.array([8, 4, 2, 8, 1]) / 23),
])  # fmt: skip
def test_who_is_forced_and_how_often(options, expected):
    found = shares(**options)
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert ((found == 0) == (expected == 0)).all()


def test_often_active_outputs_fall_silent_and_the_forced_one_takes_a_message():
    mask = np.array([1, 0, 1, 0, 1, 1, 0], bool)
    strength = np.where(mask, 2.0, 0.0).astype(np.float32)
    indices = np.arange(NODES * WIDTH).reshape(NODES, WIDTH).astype(np.int32)
    state = Activation(*map(jnp.asarray, (mask, indices % 16, indices % 32, strength)), 1.0)
    options = Balance("round_robin", max_activations=4)
    counts, key = jnp.array([9, 2, 1]), jax.random.key(3)
    new = balance(options, TABLES, state, OUTPUTS, counts, key)
    # 4 is silenced, 5 left alone, 6 is the least active: it was silent and is forced.
    np.testing.assert_array_equal(new.mask, [1, 0, 1, 0, 0, 1, 1])
    np.testing.assert_allclose(new.strength, [2, 0, 2, 0, 0, 2, 0.8])
    np.testing.assert_array_equal(new.phase[:6], state.phase[:6])
    again = balance(options, TABLES, new, OUTPUTS, jnp.array([0, 2, 1]), key)
    # To an active node the message is added.
    assert again.strength[4] == pytest.approx(0.8)
    more = balance(options, TABLES, new, OUTPUTS, counts, key)
    assert more.strength[6] == pytest.approx(1.6)
    for name, bins in (("phase", 16), ("mag", 32)):
        message = np.asarray(getattr(new, name)[6])
        assert message.min() >= 0 and message.max() < bins
        np.testing.assert_array_equal(getattr(more, name)[6], 2 * message % bins)
    drawn = [tuple(balance(options, TABLES, state, OUTPUTS, counts, k).phase[6].tolist())
             for k in KEYS[:5]]  # fmt: skip
    assert len(set(drawn)) == 5
