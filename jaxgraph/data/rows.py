"""Batches of rows out of arrays that fit in memory; batch i is a function of the seed and i."""

import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial

import grain
import numpy as np
from jaxtyping import Int64

from jaxgraph.data.pipeline import PADDING, in_order, shuffled
from jaxgraph.errors import UserError

Row = dict[str, np.ndarray]


def row_batches(
    rows: Mapping[str, np.ndarray],
    *,
    endless: bool,
    batch_size: int,
    seed: int,
    shard: tuple[int, int] = (0, 1),
    draws: bool = False,
    change: Callable[[int, Row], Row] | None = None,
) -> grain.MapDataset:
    """Batches of named arrays ``[n, ...]``, with `mask` float32 ``[b]``: 1 where a row is real.

    Args:
      rows: arrays of one length.
      endless: shuffled anew each epoch, repeated for ever, batches full; else once and in order,
        the last batch filled up with zeros of mask 0.
      batch_size: b of the global batch.
      seed: of the order, where endless.
      shard: (index, count) of this process; it gets the rows ``[index * b / count, ...)`` of each
        global batch, which does not depend on the count.
      draws: whether each endless batch is drawn from all rows instead, see `drawn`.
      change: what else happens to batch i before it is shared out.

    Raises:
      UserError: there are no rows, or too few to draw from, or a batch cannot be shared out evenly.
    """
    index, count = shard
    if batch_size % count:
        raise UserError(
            f"batch_size {batch_size} cannot be shared by {count} processes; use a multiple"
        )
    (total,) = {len(array) for array in rows.values()}
    if not total:
        raise UserError("the split is empty; give it a share above 0")
    share = batch_size // count
    if draws and endless and batch_size > total:
        raise UserError(f"batch_size {batch_size} cannot be drawn from {total} rows; use fewer")
    shuffle = drawn if draws else shuffled
    order = shuffle(total, seed) if endless else partial(in_order, total)

    def batch(i: int) -> Row:
        ids = order(np.arange(i * batch_size, (i + 1) * batch_size))
        taken = _take(rows, ids)
        if change is not None:
            taken = change(i, taken)
        return {name: part[index * share : (index + 1) * share] for name, part in taken.items()}

    batches = (sys.maxsize if endless else total + batch_size - 1) // batch_size
    return grain.MapDataset.range(batches).map(batch)


def row_numbers(
    total: int, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)
) -> grain.MapDataset:
    """Endless batches of `row` int32 ``[b]`` and `mask`: which rows `row_batches` would take, for
    a step that has the rows on its device."""
    rows = {"row": np.arange(total, dtype=np.int32)}
    return row_batches(rows, endless=True, batch_size=batch_size, seed=seed, shard=shard)


def drawn(rows: int, seed: int) -> Callable[[Int64[np.ndarray, " b"]], Int64[np.ndarray, " b"]]:
    """Row ids of batches that are drawn without replacement, each from all rows: those that
    `np.random.seed(seed)` and one `np.random.choice` after the other give."""
    source, known, lock = np.random.RandomState(seed % 2**32), [], threading.Lock()

    def order(places: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        count = len(places)
        with lock:  # whoever reads ahead may ask for a later batch first
            while len(known) <= places[0] // count:
                known.append(source.choice(rows, count, replace=False))
            return known[places[0] // count]

    return order


def _take(rows: Mapping[str, np.ndarray], ids: Int64[np.ndarray, " b"]) -> Row:
    real = ids != PADDING
    taken = {}
    for name, array in rows.items():
        taken[name] = array[ids]  # PADDING reads the last row, blotted out next
        taken[name][~real] = 0
    return taken | {"mask": real.astype(np.float32)}
