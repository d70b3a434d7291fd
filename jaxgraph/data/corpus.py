"""A text as token ids: three splits, their tokenizer, and two numbers to judge a loss by."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Integer

from jaxgraph.data.cache import cached_arrays, content_key
from jaxgraph.data.config import TextData
from jaxgraph.data.text import SplitName, load_passages, split_passages
from jaxgraph.data.tokenizers import Tokenizer, load_tokenizer

PASSAGES_A_CALL = 1000


@dataclass(frozen=True)
class TokenSplit:
    """The passages of a split, one after the other, each closed by eos."""

    tokens: Integer[np.ndarray, " n"]
    """uint16 where the vocabulary allows it, else int32."""
    starts: Int64[np.ndarray, " starts"]
    """Passage i is ``tokens[starts[i]:starts[i + 1]]``."""
    bytes: int
    """UTF-8 length of the text."""


@dataclass(frozen=True)
class Corpus:
    """Tokenized text; `description` and `licence` say which."""

    tokenizer: Tokenizer
    splits: dict[SplitName, TokenSplit]
    description: str
    licence: str

    def unigram_entropy(self, split: SplitName = "validation") -> float:
        """Nats a token of a split under the word frequencies of the training split.

        ``-mean over tokens x of log((count(x) + 1) / (n + v))``, where ``count`` and ``n`` count
        training tokens, eos included, and ``v`` is the size of the vocabulary: the loss of a model
        that ignores context.
        """
        size = self.tokenizer.vocab_size
        counts = np.bincount(self.splits["train"].tokens, minlength=size) + 1
        log_shares = np.log(counts / counts.sum())
        return float(-log_shares[self.splits[split].tokens].mean())

    def bytes_per_token(self, split: SplitName = "validation") -> float:
        """Bytes of text for each token of a split, eos counted as a token of no bytes.

        ``bits per byte = (nats per token) / (log(2) * bytes_per_token)``.
        """
        return self.splits[split].bytes / len(self.splits[split].tokens)


def load_corpus(config: TextData) -> Corpus:
    """Reads, splits and tokenizes the text that a config names; tokens are cached by content.

    Raises:
      UserError: the source, the tokenizer or a split cannot be had.
    """
    passages = load_passages(config.source, config.max_passages)
    splits = split_passages(passages.texts, config.validation, config.test)
    tokenizer = load_tokenizer(config.tokenizer, splits["train"])

    def make() -> dict[str, np.ndarray]:
        arrays = {}
        for name, texts in splits.items():
            arrays[f"{name}_tokens"], arrays[f"{name}_starts"] = tokenize(tokenizer, texts)
        return arrays

    shares = f"{config.validation!r} {config.test!r}"
    key = content_key(["1", tokenizer.fingerprint, shares, *passages.texts])
    arrays = cached_arrays("tokens", key, make)
    tokenized = {
        name: TokenSplit(
            tokens=arrays[f"{name}_tokens"],
            starts=arrays[f"{name}_starts"],
            bytes=sum(len(text.encode()) for text in texts),
        )
        for name, texts in splits.items()
    }
    return Corpus(tokenizer, tokenized, passages.description, passages.licence)


def tokenize(
    tokenizer: Tokenizer, texts: Sequence[str]
) -> tuple[Integer[np.ndarray, " n"], Int64[np.ndarray, " starts"]]:
    """Ids of all passages, each closed by eos, and where each passage starts."""
    dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.int32
    parts, lengths = [np.empty(0, dtype)], [0]
    for first in range(0, len(texts), PASSAGES_A_CALL):
        encoded = tokenizer.encode_many(texts[first : first + PASSAGES_A_CALL])
        closed = [[*ids, tokenizer.eos_id] for ids in encoded]
        parts.append(np.fromiter(itertools.chain.from_iterable(closed), dtype))
        lengths.extend(map(len, closed))
    return np.concatenate(parts), np.cumsum(lengths, dtype=np.int64)
