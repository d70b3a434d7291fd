"""Tokenizers: what every one offers, and how to get one by name or back from a run folder."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxgraph.data.subword import load_gpt2, load_tokenizer_file, train_bpe
from jaxgraph.errors import UserError


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back; no text ever encodes to `eos_id`, which only ends passages."""

    name: str
    vocab_size: int
    """Ids run from 0 to `vocab_size - 1`."""
    eos_id: int
    fingerprint: str
    """SHA-256 of what the ids mean: equal for tokenizers that encode alike."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without `eos_id`."""

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for each text, faster."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; `eos_id` is left out and broken UTF-8 becomes U+FFFD."""

    def to_json(self) -> str:
        """Everything about it, for `tokenizer_from_json`."""


class ByteTokenizer:
    """The 256 bytes of UTF-8, and an end."""

    name = "bytes"
    vocab_size = 257
    eos_id = 256
    fingerprint = hashlib.sha256(b"bytes").hexdigest()

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i != self.eos_id).decode(errors="replace")

    def to_json(self) -> str:
        return json.dumps({"jaxgraph": "bytes"})


def load_tokenizer(spec: str, train_passages: Sequence[str]) -> Tokenizer:
    """Makes the tokenizer that a config names.

    Args:
      spec: `bytes`, `gpt2`, `bpe:SIZE`, or the path of a tokenizer.json (Hugging Face's, or one
        saved by `to_json`).
      train_passages: text that `bpe:SIZE` learns from; the others ignore it.

    Raises:
      UserError: the spec is unknown, its files are missing or malformed, or the text is too short
        for the vocabulary.
    """
    if spec == "bytes":
        return ByteTokenizer()
    if spec == "gpt2":
        return load_gpt2()
    if spec.startswith("bpe:") and spec[4:].isdigit():
        return train_bpe(train_passages, int(spec[4:]))
    if spec.endswith(".json"):
        try:
            text = Path(spec).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"tokenizer {spec!r} cannot be read: {error}") from error
        return tokenizer_from_json(text, spec)
    raise UserError(
        f"unknown tokenizer {spec!r}; allowed: bytes, gpt2, bpe:SIZE, or the path of a "
        "tokenizer.json"
    )


def tokenizer_from_json(text: str, name: str = "tokenizer.json") -> Tokenizer:
    """Gets a tokenizer back from what `to_json` wrote, or from Hugging Face's tokenizer.json.

    Raises:
      UserError: the text is neither; `name` says in the message where it came from.
    """
    try:
        saved = json.loads(text)
    except ValueError as error:
        raise UserError(f"tokenizer {name!r} is not JSON: {error}") from error
    if isinstance(saved, dict) and saved.get("jaxgraph") == "bytes":
        return ByteTokenizer()
    return load_tokenizer_file(saved, name)
