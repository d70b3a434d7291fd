"""Bytes of steps, and the batch that fits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.data.buckets import bucket_batches
from jaxgraph.errors import UserError
from jaxgraph.train.memory import free_bytes, largest_batch, step_bytes, widest


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


def test_of_batches_by_length_the_widest_is_asked_about():
    real = np.arange(40)[None] < np.repeat([8, 16, 40], 4)[:, None]
    rows = {"bytes": real * 1, "bytes_mask": real}
    for seed in range(4):  # each has an order of its own
        batches = bucket_batches(rows, 3, by="bytes_mask", batch_size=2, seed=seed)
        assert widest(batches, 3)["bytes"].shape == (2, 40)


def test_there_is_memory():
    assert free_bytes() > 2**20 and jax.devices()
