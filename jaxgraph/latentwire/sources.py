"""Questions as rows of fixed shape: everything is tokenised once."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxgraph.data.buckets import bucket_batches
from jaxgraph.data.qa import Example, load_qa, split_examples
from jaxgraph.data.rows import Row, row_batches
from jaxgraph.latentwire.config import LatentWire
from jaxgraph.latentwire.text import collate, to_bytes, wants_bos
from jaxgraph.lm.load.tokenizer import LmTokenizer
from jaxgraph.train.task import Batch, Batches

SEPARATOR = "/"
"""Between a model's name and what its arrays hold."""


def lm_names(sources: Sequence[str]) -> tuple[str, ...]:
    """Short names of models, which are part of parameters' paths."""
    return tuple(re.sub(r"\W", "_", Path(source).stem) for source in sources)


def between_ids(config: LatentWire, tokenizer: LmTokenizer) -> tuple[int, ...]:
    """BOS and anchor of one model."""
    text = config.data.anchor
    anchor = tokenizer.encode(text.rstrip(" ") + " ") if text.strip() else []
    bos = wants_bos(config.data.bos, anchor) and tokenizer.bos_id is not None
    return (*[tokenizer.bos_id] * bos, *anchor)


def begin_of(tokenizer: LmTokenizer) -> int:
    """What a model's texts begin with: BOS, or else the end of the text before."""
    return tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id


def nested(batch: Batch, *, lengths: bool) -> Batch:
    """Arrays of each model under its name; the answers' lengths only where they may be known."""
    tree: Batch = {}
    for key, array in batch.items():
        name, _, part = key.rpartition(SEPARATOR)
        if part != "length" or lengths:
            (tree.setdefault(name, {}) if name else tree)[part] = array
    return tree


class Source:
    """Rows of each split, for all models.

    `bytes`, `bytes_mask` are what the encoder reads; for each model by ``NAME/...`` there are
    `answer`, `answer_mask`, `first` and `length`, and padded on the left `text` with the anchor
    behind it and `short`: no more of the text than there are slots, and the anchor.
    """

    def __init__(self, config: LatentWire, tokenizers: Mapping[str, LmTokenizer]):
        self.config, self.tokenizers = config, tokenizers
        data = config.data
        found = load_qa(data.source, data.max_examples)
        examples = found.examples
        if data.piece:
            first = next(iter(tokenizers.values()))
            examples = tuple(piece for e in examples for piece in cut(e, first, data.piece))
        self.splits = split_examples(examples, data.validation, data.test)
        self._facts = {"data": found.description, "licence": found.licence}
        self._rows: dict[str, Row] = {}

    def describe(self) -> dict[str, str]:
        sizes = ", ".join(f"{name} {len(part)}" for name, part in self.splits.items())
        return self._facts | {"examples": sizes}

    def batches(self, split: str, seed: int, more: Row | None = None) -> Batches:
        """Batches of a split; `more` are further arrays of its rows."""
        rows, data = self.rows(split) | (more or {}), self.config.data
        options = {"batch_size": data.batch_size, "seed": seed}
        if split == "train" and data.buckets > 1:
            return bucket_batches(rows, data.buckets, by="bytes_mask", **options)
        return row_batches(rows, endless=split == "train", **options)

    def rows(self, split: str) -> Row:
        """All rows of a split; made once."""
        if split not in self._rows:
            self._rows[split] = self.rows_of(self.splits[split])
        return self._rows[split]

    def rows_of(self, examples: Sequence[Example]) -> Row:
        """Rows of any examples."""
        data = self.config.data
        texts = [text_of(example) for example in examples]
        ids, real = collate([to_bytes(t, data.max_bytes) for t in texts], data.max_bytes)
        if self.config.encoder.padding == "read":
            real = np.ones_like(real)
        rows = {"bytes": ids, "bytes_mask": real}
        for name, tokenizer in self.tokenizers.items():
            own = self._of_model(tokenizer, examples, texts)
            rows |= {f"{name}{SEPARATOR}{key}": array for key, array in own.items()}
        return rows

    def _of_model(
        self, tokenizer: LmTokenizer, examples: Sequence[Example], texts: Sequence[str]
    ) -> Row:
        data, anchor = self.config.data, list(between_ids(self.config, tokenizer))
        answers, texts_ids = [], [tokenizer.encode(text) for text in texts]
        for example in examples:
            ids = tokenizer.encode(example.answers[0])
            end = [tokenizer.eos_id] * (data.end and tokenizer.eos_id is not None)
            answers.append([*ids, *end][: data.max_answer_tokens])
        answer, real = collate(answers, data.max_answer_tokens)
        room = data.max_text_tokens - len(anchor)
        text, text_mask = _left([[*ids[:room], *anchor] for ids in texts_ids], data.max_text_tokens)
        slots = self.config.encoder.slots
        short, short_mask = _left(
            [[*ids[:slots], *anchor] for ids in texts_ids], slots + len(anchor)
        )
        return {
            "answer": answer, "answer_mask": real, "first": answer[:, 0],
            "length": real.sum(1).astype(np.int32), "text": text, "text_mask": text_mask,
            "short": short, "short_mask": short_mask,
        }  # fmt: skip


def text_of(example: Example) -> str:
    """What goes over the wire (spec/latentwire.md, section 7)."""
    if not example.question:
        return example.context
    context = f"Context: {example.context}\n" if example.context else ""
    return f"{context}Question: {example.question}\n"


def cut(example: Example, tokenizer: LmTokenizer, tokens: int) -> list[Example]:
    """Pieces of a text to autoencode, each of so many tokens; a shorter rest is left out."""
    ids = tokenizer.encode(example.context)
    starts = range(0, len(ids) - tokens + 1, tokens)
    pieces = [tokenizer.decode(ids[i : i + tokens]).strip() for i in starts]
    return [Example(piece, "", (piece,)) for piece in pieces if piece]


def _left(rows: Sequence[Sequence[int]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows padded on the left."""
    ids, real = collate([row[::-1] for row in rows], width)
    return np.ascontiguousarray(ids[:, ::-1]), np.ascontiguousarray(real[:, ::-1])
