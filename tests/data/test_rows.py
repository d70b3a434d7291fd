"""Batches drawn anew from all rows."""

import numpy as np
import pytest

from jaxgraph.data.rows import row_batches
from jaxgraph.errors import UserError

ROWS = {"x": np.arange(50)}
OPTIONS = {"batch_size": 20, "seed": 7, "draws": True}


def test_draws_are_those_of_the_legacy_generator_in_any_order_of_asking():
    np.random.seed(7)
    expected = [np.random.choice(50, 20, replace=False) for _ in range(4)]
    batches = row_batches(ROWS, endless=True, **OPTIONS)
    for i in (2, 0, 3, 1):
        np.testing.assert_array_equal(batches[i]["x"], expected[i])
    halves = [row_batches(ROWS, endless=True, shard=(i, 2), **OPTIONS)[1]["x"] for i in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(halves), expected[1])
    held = row_batches(ROWS, endless=False, **OPTIONS)
    np.testing.assert_array_equal(held[2]["x"][:10], np.arange(40, 50))


def test_no_more_than_there_are():
    with pytest.raises(UserError, match="batch_size 60 cannot be drawn from 50 rows"):
        row_batches(ROWS, endless=True, **OPTIONS | {"batch_size": 60})
