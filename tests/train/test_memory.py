"""Bytes of steps, and the batch that fits."""

import jax
import jax.numpy as jnp
import pytest

from jaxgraph.errors import UserError
from jaxgraph.train.memory import free_bytes, largest_batch, step_bytes


def step(state, frozen, batch):
    """Keeps one product of every row until the end."""
    kept = jnp.sin(batch["x"] @ frozen)
    return state + jnp.sum(jnp.cumsum(kept, axis=0) * kept), {}


def test_bytes_of_a_step_grow_with_its_rows_and_hold_what_it_is_given():
    frozen, batch = jnp.ones((8, 4096)), {"x": jnp.ones((2, 8))}
    few, many = (step_bytes(step, jnp.zeros(()), frozen, batch, rows) for rows in (2, 64))
    assert few > frozen.nbytes and many - few >= 62 * 4096 * 4


def test_the_largest_batch_fits_and_the_next_does_not():
    cost = lambda rows: 1000 + 100 * rows  # noqa: E731
    rows, needed = largest_batch(cost, 5000)
    assert (rows, needed) == (32, cost(32)) and cost(64) > 0.9 * 5000
    assert largest_batch(cost, 4300)[0] == 16  # a tenth stays free
    assert largest_batch(cost, 10**9)[0] == 512
    with pytest.raises(UserError, match="one row needs"):
        largest_batch(cost, 1100)


def test_there_is_memory():
    assert free_bytes() > 2**20 and jax.devices()
