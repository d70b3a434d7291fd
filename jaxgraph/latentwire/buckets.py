"""Batches of rows of like length, no wider than they need to be."""

import sys
from collections.abc import Mapping

import grain
import numpy as np

from jaxgraph.data.rows import Row, row_batches
from jaxgraph.errors import UserError

ROUND = 8
"""Widths are multiples of this."""
RIGHT = ("bytes", "answer")
LEFT = ("text", "short")
"""What is padded on which side; each has a mask beside it that says where it is real."""


def bucket_batches(
    rows: Mapping[str, np.ndarray], buckets: int, *, batch_size: int, seed: int
) -> grain.MapDataset:
    """Endless batches as `row_batches` gives them, each of rows of one group.

    Groups are of equal size by the number of bytes, and each is shuffled for itself; every
    `buckets` batches hold one of each group, in an order of their own.

    Raises:
      UserError: there are fewer rows than groups.
    """
    lengths = rows["bytes_mask"].sum(1)
    if len(lengths) < buckets:
        raise UserError(f"task.data.buckets: {buckets} groups of {len(lengths)} training rows")
    order = np.argsort(lengths, kind="stable")
    parts = [
        row_batches(
            trimmed({name: array[ids] for name, array in rows.items()}),
            endless=True, batch_size=batch_size, seed=seed,
        )
        for ids in np.array_split(order, buckets)
    ]  # fmt: skip

    def batch(i: int) -> Row:
        turn, place = divmod(i, buckets)
        raw = np.random.Philox(key=np.array([seed, turn], np.uint64)).random_raw(buckets)
        return parts[int(np.argsort(raw)[place])][turn]

    return grain.MapDataset.range(sys.maxsize // batch_size).map(batch)


def trimmed(rows: Row) -> Row:
    """Rows without the columns in which all of them are padding."""
    out = dict(rows)
    for name in rows:
        stem = name.removesuffix("_mask")
        kind = stem.rpartition("/")[2]
        if f"{stem}_mask" not in rows or kind not in RIGHT + LEFT:
            continue
        longest = int(rows[f"{stem}_mask"].sum(1).max())
        width = min(rows[name].shape[1], -(-max(longest, 1) // ROUND) * ROUND)
        out[name] = rows[name][:, :width] if kind in RIGHT else rows[name][:, -width:]
    return out
