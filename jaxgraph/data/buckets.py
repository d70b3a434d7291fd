"""Batches of rows of like length, no wider than they need to be."""

import sys
from collections.abc import Mapping

import grain
import numpy as np

from jaxgraph.data.rows import Row, row_batches
from jaxgraph.errors import UserError

ROUND = 8
"""Widths are multiples of this."""


def bucket_batches(
    rows: Mapping[str, np.ndarray], buckets: int, *, by: str, batch_size: int, seed: int
) -> grain.MapDataset:
    """Endless batches as `row_batches` gives them, each of rows of one group.

    Groups are of equal size by the number of real columns of one array, and each is shuffled for
    itself; every `buckets` batches hold one of each group, in an order of their own.

    Args:
      rows: arrays of one length; ``NAME_mask`` says which columns of NAME are real.
      by: name of the mask that the groups follow.

    Raises:
      UserError: there are fewer rows than groups.
    """
    lengths = rows[by].sum(1)
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


def trimmed(rows: Mapping[str, np.ndarray]) -> Row:
    """Rows without the columns at either end in which all of them are padding."""
    out = dict(rows)
    for name in rows:
        if f"{name}_mask" not in rows:
            continue
        mask = rows[f"{name}_mask"]
        width = mask.shape[1]
        real = np.flatnonzero(mask.any(0))
        start, stop = (real[0], real[-1] + 1) if len(real) else (0, 1)
        kept = min(width, -(-(stop - start) // ROUND) * ROUND)
        start = min(start, width - kept)
        for each in (name, f"{name}_mask"):
            out[each] = rows[each][:, start : start + kept]
    return out
