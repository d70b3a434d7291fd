"""Batches of tokens as a grain data set: batch i is a function of the seed and i alone."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

import grain
import numpy as np
from jaxtyping import Float32, Int32, Int64, Integer

from jaxgraph.data.corpus import Corpus, TokenSplit
from jaxgraph.data.text import SplitName
from jaxgraph.errors import UserError

PADDING = -1


def token_batches(
    corpus: Corpus,
    split: SplitName,
    *,
    seq_len: int,
    batch_size: int,
    packing: Literal["stream", "rows"],
    seed: int,
    shard: tuple[int, int] = (0, 1),
) -> grain.MapDataset:
    """Batches of one split, each a dict of arrays ``[b, t]``.

    `inputs` int32, `targets` int32 (the next token of each input), `mask` float32 (1 where the
    target is real). ``dataset[i]`` is batch i, so a run resumes from the number of its step.

    - `train` is shuffled anew each epoch and repeats for ever; batches are full and cross epochs.
    - `validation` and `test` run once, in order; the last batch is filled up with rows of mask 0.
      (Like every grain data set, they start over where indexed beyond `len`.)
    - `stream` cuts the joined passages into rows of `seq_len` targets that overlap by one token,
      so each token but the first is a target once an epoch.
    - `rows` gives each passage a row, cut after `seq_len` targets; its eos is a target.

    Args:
      corpus: the tokens.
      split: which of its splits.
      seq_len: t.
      batch_size: rows of the global batch.
      packing: as above.
      seed: of the order of `train`.
      shard: (index, count) of this process; it gets the rows ``[index * b / count, ...)`` of each
        global batch, which does not depend on the count.

    Raises:
      UserError: the split is empty, or the batch cannot be shared out evenly.
    """
    index, count = shard
    if batch_size % count:
        raise UserError(
            f"batch_size {batch_size} cannot be shared by {count} processes; use a multiple"
        )
    if not len(corpus.splits[split].tokens):
        raise UserError(f"the {split} split is empty: data.{split} is 0; give it a share above 0")
    rows = _cut(corpus.splits[split], corpus.tokenizer.eos_id, seq_len, packing)
    total, share = len(rows.begins), batch_size // count
    order = shuffled(total, seed) if split == "train" else partial(in_order, total)

    def batch(i: int) -> dict[str, np.ndarray]:
        ids = order(np.arange(i * batch_size, (i + 1) * batch_size))
        return rows.take(ids[index * share : (index + 1) * share])

    batches = (sys.maxsize if split == "train" else total + batch_size - 1) // batch_size
    # Rows are taken by whole batches: grain's own shuffle and batch cost 12 us a row.
    return grain.MapDataset.range(batches).map(batch)


def shuffled(rows: int, seed: int) -> Callable[[Int64[np.ndarray, " b"]], Int64[np.ndarray, " b"]]:
    """Row ids at ascending places of endless epochs, each of them in an order of its own."""

    @lru_cache(maxsize=2)
    def epoch_order(epoch: int) -> Int64[np.ndarray, " rows"]:
        # NumPy promises never to change the raw stream, which it does not for `permutation`.
        raw = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(rows)
        return np.argsort(raw, kind="stable")

    def order(places: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        epochs, ranks = np.divmod(places, rows)
        parts = [epoch_order(int(epoch))[ranks[epochs == epoch]] for epoch in np.unique(epochs)]
        return np.concatenate(parts)

    return order


def in_order(rows: int, places: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
    """The places themselves, `PADDING` after the last row."""
    return np.where(places < rows, places, PADDING)


@dataclass(frozen=True)
class Rows:
    """Rows of ``seq_len + 1`` tokens in a flat array; row r holds tokens ``begins[r]:ends[r]``."""

    tokens: Integer[np.ndarray, " n"]
    begins: Int64[np.ndarray, " rows"]
    ends: Int64[np.ndarray, " rows"]
    seq_len: int
    pad_id: int

    def take(
        self, ids: Int64[np.ndarray, " b"]
    ) -> dict[str, Int32[np.ndarray, "b t"] | Float32[np.ndarray, "b t"]]:
        """The batch of some rows; the id `PADDING` gives a row without targets."""
        places = self.begins[ids, None] + np.arange(self.seq_len + 1)
        real = (places < self.ends[ids, None]) & (ids != PADDING)[:, None]
        tokens = self.tokens[np.minimum(places, len(self.tokens) - 1)].astype(np.int32)
        tokens = np.where(real, tokens, np.int32(self.pad_id))
        mask = real[:, 1:].astype(np.float32)
        return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "mask": mask}


def _cut(split: TokenSplit, pad_id: int, seq_len: int, packing: str) -> Rows:
    if packing == "stream":
        begins = np.arange(0, len(split.tokens) - 1, seq_len, dtype=np.int64)
        limits = np.full_like(begins, len(split.tokens))
    else:
        begins, limits = split.starts[:-1], split.starts[1:]
    ends = np.minimum(begins + seq_len + 1, limits)
    with_targets = ends - begins > 1
    return Rows(split.tokens, begins[with_targets], ends[with_targets], seq_len, pad_id)
