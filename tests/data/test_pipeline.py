"""Batches are a function of seed and index, cover their split, and do not know the processes."""

import contextlib
import itertools
import threading
import time

import numpy as np
import pytest

from jaxgraph.data.corpus import Corpus, TokenSplit, tokenize
from jaxgraph.data.pipeline import token_batches
from jaxgraph.data.tokenizers import ByteTokenizer
from jaxgraph.errors import UserError

SIZES = {"seq_len": 12, "batch_size": 4}
EOS = 256
both = pytest.mark.parametrize("packing", ["stream", "rows"])


def make_corpus(train: list[str], validation: list[str]) -> Corpus:
    splits = {}
    for name, texts in {"train": train, "validation": validation, "test": []}.items():
        tokens, starts = tokenize(ByteTokenizer(), texts)
        splits[name] = TokenSplit(tokens, starts, sum(map(len, texts)))
    return Corpus(ByteTokenizer(), splits, "", "")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """26 passages to train on, shorter, as long as and longer than a row; 7 to validate."""
    letters = [chr(97 + i) * (5 + i % 13) for i in range(26)]
    return make_corpus(letters, ["x" * i for i in range(9, 16)])


def batches(corpus, split, packing, seed=0, **sizes):
    return token_batches(corpus, split, packing=packing, seed=seed, **(SIZES | sizes))


def expected_rows(split: TokenSplit, packing: str, seq_len: int) -> list[list[int]]:
    """The slow obvious twin: rows of up to ``seq_len + 1`` tokens."""
    tokens = split.tokens.tolist()
    if packing == "stream":
        rows = [tokens[i : i + seq_len + 1] for i in range(0, len(tokens), seq_len)]
        return [row for row in rows if len(row) > 1]
    pairs = itertools.pairwise(split.starts.tolist())
    return [tokens[a:b][: seq_len + 1] for a, b in pairs]


def real_rows(batch) -> list[list[int]]:
    """Rows without padding; rows of padding alone are left out."""
    rows = []
    for inputs, targets, mask in zip(batch["inputs"], batch["targets"], batch["mask"], strict=True):
        real = int(mask.sum())
        np.testing.assert_array_equal(mask, np.arange(len(mask)) < real)
        np.testing.assert_array_equal(inputs[1:], targets[:-1])
        np.testing.assert_array_equal(targets[real:], EOS)
        if real:
            rows.append([int(inputs[0]), *targets[:real].tolist()])
    return rows


def equal(a, b) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@both
@pytest.mark.parametrize("split", ["train", "validation"])
def test_arrays(corpus, split, packing):
    batch = batches(corpus, split, packing)[0]
    kinds = {"inputs": np.int32, "targets": np.int32, "mask": np.float32}
    assert {name: array.dtype for name, array in batch.items()} == kinds
    assert {array.shape for array in batch.values()} == {(4, 12)}


@both
@pytest.mark.parametrize("sizes", [{}, {"seq_len": 7, "batch_size": 2}, {"seq_len": 500}])
def test_validation_is_covered_once_in_order(corpus, packing, sizes):
    dataset = batches(corpus, "validation", packing, **sizes)
    split, seq_len = corpus.splits["validation"], (SIZES | sizes)["seq_len"]
    rows = [row for batch in dataset for row in real_rows(batch)]
    assert rows == expected_rows(split, packing, seq_len)
    targets = sum(float(batch["mask"].sum()) for batch in dataset)
    if packing == "stream":
        assert targets == len(split.tokens) - 1
    else:
        assert targets == np.minimum(np.diff(split.starts) - 1, seq_len).sum()
    assert {batch["mask"].shape for batch in dataset} == {dataset[0]["mask"].shape}
    assert dataset[len(dataset) - 1]["mask"][0].any()


def test_eos_of_a_row_is_a_target_and_padding_is_not(corpus):
    batch = batches(corpus, "validation", "rows", seq_len=12)[0]
    np.testing.assert_array_equal(batch["targets"][0], [ord("x")] * 8 + [EOS] * 4)
    np.testing.assert_array_equal(batch["mask"][0], [1] * 9 + [0] * 3)


@both
def test_each_epoch_loses_nothing_and_has_its_own_order(corpus, packing):
    dataset = batches(corpus, "train", packing)
    rows = expected_rows(corpus.splits["train"], packing, 12)
    assert len(rows) % 4, "epochs must not end with a batch"
    seen = [row for i in range(len(rows)) for row in real_rows(dataset[i])]
    epochs = [seen[i : i + len(rows)] for i in range(0, 4 * len(rows), len(rows))]
    for epoch in epochs:
        assert sorted(epoch) == sorted(rows)
    assert all(a != b for a, b in itertools.combinations([rows, *epochs], 2))


@both
def test_seed_decides(corpus, packing):
    a, b, c = (batches(corpus, "train", packing, seed) for seed in (0, 0, 1))
    assert all(equal(a[i], b[i]) for i in range(20))
    assert not equal(a[0], c[0])
    # A seed is not another seed's later epoch.
    rows = len(expected_rows(corpus.splits["train"], packing, 12))
    a, c = (batches(corpus, "train", packing, seed, batch_size=rows) for seed in (0, 1))
    assert not equal(a[1], c[0])


def test_order_is_the_same_on_every_machine(corpus):
    first = batches(corpus, "train", "rows")[0]["inputs"][:, 0]
    assert bytes(first.tolist()).decode() == "avcl"


@both
@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("start", [0, 2, 5])
def test_iteration_resumes_anywhere(corpus, split, packing, start):
    dataset = batches(corpus, split, packing, batch_size=1)
    with contextlib.closing(iter(dataset[start:])) as iterator:
        ahead = list(itertools.islice(iterator, 40))
    assert len(ahead) == (40 if split == "train" else len(dataset) - start)
    assert all(equal(batch, dataset[start + i]) for i, batch in enumerate(ahead))


def test_iteration_after_the_end_is_empty(corpus):
    dataset = batches(corpus, "validation", "rows")
    with contextlib.closing(iter(dataset[len(dataset) :])) as iterator:
        assert list(iterator) == []


def test_closing_ends_the_threads(corpus):
    before = set(threading.enumerate())  # some of other tests may end any time
    iterator = iter(batches(corpus, "train", "rows"))
    next(iterator)
    own = set(threading.enumerate()) - before
    assert own
    iterator.close()
    until = time.monotonic() + 5
    while any(thread.is_alive() for thread in own) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(thread.is_alive() for thread in own)


@both
@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_global_batch(corpus, split, packing, count):
    whole = batches(corpus, split, packing)
    parts = [batches(corpus, split, packing, shard=(p, count)) for p in range(count)]
    assert all(len(part) == len(whole) for part in parts)
    for i in range(min(len(whole), 20)):
        joined = {k: np.concatenate([part[i][k] for part in parts]) for k in whole[i]}
        assert equal(joined, whole[i])


def test_batch_larger_than_the_split(corpus):
    tiny = make_corpus(["a", "b", "c"], ["d"])
    train = batches(tiny, "train", "rows", batch_size=8)[5]
    assert sorted(chr(row[0]) for row in real_rows(train)).count("a") in (2, 3)
    assert train["mask"].sum() == 8
    assert batches(tiny, "validation", "stream", batch_size=8)[0]["mask"].sum() == 1


def test_passages_without_a_target_take_no_row():
    tokens = np.array([EOS, 5, EOS], np.uint16)
    split = TokenSplit(tokens, np.array([0, 1, 3]), 1)
    corpus = Corpus(ByteTokenizer(), {"train": split}, "", "")
    batch = batches(corpus, "train", "rows")[0]
    assert real_rows(batch) == [[5, EOS]] * 4


def test_empty_split_is_an_error(corpus):
    with pytest.raises(UserError, match="the test split is empty: data.test is 0"):
        batches(corpus, "test", "stream")


def test_uneven_shares_are_an_error(corpus):
    with pytest.raises(UserError, match="batch_size 4 cannot be shared by 3 processes"):
        batches(corpus, "train", "stream", shard=(0, 3))


def test_a_batch_takes_far_less_than_a_step(sample):
    dataset = batches(sample, "train", "stream", seq_len=256, batch_size=64)
    dataset[0]
    times = []
    for i in range(20):
        start = time.perf_counter()
        dataset[i]
        times.append(time.perf_counter() - start)
    # 0.1 ms where it was written, without type checks; the least of 20 ignores a busy machine.
    assert min(times) < 1e-3
