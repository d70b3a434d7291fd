"""Batches of rows of like length."""

import numpy as np
import pytest

from jaxgraph.data.buckets import bucket_batches, trimmed
from jaxgraph.errors import UserError


def rows_of(lengths):
    count, place = len(lengths), np.arange(40)[None]
    real = place < np.asarray(lengths)[:, None]
    return {
        "bytes": np.arange(count)[:, None] * real, "bytes_mask": real,
        "one/text": np.arange(count)[:, None] * real[:, ::-1], "one/text_mask": real[:, ::-1],
        "one/first": np.arange(count),
    }  # fmt: skip


def test_batches_of_like_length_hold_every_row_once_an_epoch():
    lengths = np.random.default_rng(0).permutation(np.repeat([5, 14, 38], 8))
    batches = bucket_batches(rows_of(lengths), 3, by="bytes_mask", batch_size=4, seed=1)
    found = [batches[i] for i in range(6)]
    assert sorted(np.concatenate([one["one/first"] for one in found])) == list(range(24))
    for one in found:
        longest = lengths[one["one/first"]].max()
        assert one["bytes"].shape[1] == one["one/text"].shape[1] == -(-longest // 8) * 8
        assert (one["bytes_mask"].sum(1) == lengths[one["one/first"]]).all()
        assert one["one/text_mask"][:, -1].all() and one["mask"].all()
    again = bucket_batches(rows_of(lengths), 3, by="bytes_mask", batch_size=4, seed=1)[4]
    assert all(np.array_equal(again[key], found[4][key]) for key in again)
    assert {one["bytes"].shape for one in found[:3]} == {one["bytes"].shape for one in found[3:]}
    with pytest.raises(UserError, match="buckets: 30 groups of 24"):
        bucket_batches(rows_of(lengths), 30, by="bytes_mask", batch_size=4, seed=1)


def test_columns_that_are_all_padding_go_and_no_others():
    rows = rows_of([3, 9])
    found = trimmed(rows)
    assert found["bytes"].shape == (2, 16) and found["one/first"] is rows["one/first"]
    assert found["bytes_mask"].sum() == 12 == found["one/text_mask"].sum()
