"""Tokenizers that belong to models: text to ids and back, and the ids that begin, pad and end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from jaxgraph.errors import UserError
from jaxgraph.lm.load.json_file import read_object

STOPS = ("<|eot_id|>", "<|im_end|>", "</s>", "<|eom_id|>", "<|endoftext|>")
"""Tokens that end an answer besides eos, where a vocabulary has them (spec/latentwire.md, 5)."""


class LmTokenizer:
    """Text to the ids of one model.

    Args:
      model: the library's tokenizer; its truncation and padding are switched off.
      bos, eos, pad: ids, or None; padding falls back to eos.

    Raises:
      UserError: there is no eos.
    """

    def __init__(
        self, model: tokenizers.Tokenizer, bos: int | None, eos: int | None, pad: int | None = None
    ):
        if eos is None:
            raise UserError("the tokenizer names no token that ends a text")
        model.no_truncation()
        model.no_padding()
        self._markup = model
        # Text that spells a special token stays text.
        self._plain = tokenizers.Tokenizer.from_str(model.to_str())
        self._plain.encode_special_tokens = True
        vocab = model.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocab.values()) + 1
        self.bos_id, self.eos_id, self.pad_id = bos, eos, eos if pad is None else pad
        self.stop_ids = tuple(sorted({eos, *(vocab[stop] for stop in STOPS if stop in vocab)}))

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Ids of a text; `specials` adds what the model's texts begin and end with."""
        return self._plain.encode(text, add_special_tokens=specials).ids

    def encode_markup(self, text: str) -> list[int]:
        """Ids of a text in which special tokens are meant, such as those around a chat's turns."""
        return self._markup.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens."""
        return self._plain.decode([int(i) for i in ids], skip_special_tokens=True)

    def id_of(self, token: str) -> int | None:
        """The id of a token, or None."""
        return self._plain.token_to_id(token)


def read_tokenizer(folder: Path) -> LmTokenizer:
    """The tokenizer of a Hugging Face folder.

    Raises:
      UserError: tokenizer.json is missing or malformed, or nothing says what ends a text.
    """
    path = folder / "tokenizer.json"
    read_object(path)
    model = parse(path.read_text(encoding="utf-8"), path)
    named = folder / "tokenizer_config.json"
    tokens = read_object(named) if named.exists() else {}
    config = read_object(folder / "config.json")
    ids = [_id(model, tokens, config, name) for name in ("bos", "eos", "pad")]
    return LmTokenizer(model, *ids)


def parse(text: str, where: Any) -> tokenizers.Tokenizer:
    """The library's tokenizer of a JSON text."""
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        raise UserError(f"{where} is no tokenizer.json: {error}") from error


def _id(
    model: tokenizers.Tokenizer, tokens: dict[str, Any], config: dict[str, Any], name: str
) -> int | None:
    """What tokenizer_config.json calls so, or else config.json's id."""
    if f"{name}_token" in tokens:
        token = tokens[f"{name}_token"]
        token = token.get("content") if isinstance(token, dict) else token
        return None if token is None else model.token_to_id(token)
    found = config.get(f"{name}_token_id")
    # Several ends: any of them will do to pad with, and all that matter are in STOPS.
    return found[0] if isinstance(found, list) else found
