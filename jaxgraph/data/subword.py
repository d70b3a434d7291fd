"""Subword tokenizers on Hugging Face's `tokenizers`: GPT-2's, trained ones, anyone's file."""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from jaxgraph.data.assets import asset_file
from jaxgraph.data.cache import cached_arrays, content_key
from jaxgraph.errors import UserError

EOS = "<|endoftext|>"
# Tried in this order: an end of document before an end of turn.
EOS_NAMES = (EOS, "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "<|eot_id|>")


class SubwordTokenizer:
    """A `tokenizers.Tokenizer` behind our protocol (`jaxgraph.data.tokenizers.Tokenizer`).

    Args:
      name: for logs.
      model: the library's tokenizer; its truncation and padding are switched off.
      eos: the token that ends a passage.

    Raises:
      UserError: the vocabulary does not hold `eos`.
    """

    def __init__(self, name: str, model: tokenizers.Tokenizer, eos: str):
        vocab = model.get_vocab(with_added_tokens=True)
        if eos not in vocab:
            raise UserError(f"tokenizer {name!r} has no token {eos!r} to end a passage with")
        # Else a passage that spells a special token would end itself.
        model.encode_special_tokens = True
        model.no_truncation()
        model.no_padding()
        self.name, self.model, self.eos = name, model, eos
        self.eos_id = vocab[eos]
        # Not the number of tokens: ids may have gaps.
        self.vocab_size = max(vocab.values()) + 1

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.eos_id} {self.model.to_str()}".encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        return self.model.encode(text, add_special_tokens=False).ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        done = self.model.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in done]

    def decode(self, ids: Sequence[int]) -> str:
        kept = [int(i) for i in ids if i != self.eos_id]
        return self.model.decode(kept, skip_special_tokens=False)

    def to_json(self) -> str:
        tokenizer = json.loads(self.model.to_str())
        saved = {"jaxgraph": "subword", "name": self.name, "eos": self.eos, "tokenizer": tokenizer}
        return json.dumps(saved, ensure_ascii=False)


def load_gpt2() -> SubwordTokenizer:
    """GPT-2's byte-level BPE out of the asset `gpt2-bpe`: 50257 ids, the last one ends."""
    files = [str(asset_file("gpt2-bpe", name)) for name in ("encoder.json", "vocab.bpe")]
    return SubwordTokenizer("gpt2", _byte_level(models.BPE.from_file(*files)), EOS)


def train_bpe(passages: Sequence[str], size: int) -> SubwordTokenizer:
    """Learns a byte-level BPE of exactly `size` ids, the last one the end; cached by content.

    Raises:
      UserError: the text has too few repeated pairs for so many ids.
    """

    def make() -> dict[str, np.ndarray]:
        model = _byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=size - 1,
            min_frequency=2,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        model.train_from_iterator(passages, trainer)
        return {"json": np.frombuffer(model.to_str().encode(), np.uint8)}

    key = content_key(["1", tokenizers.__version__, str(size), *passages])
    saved = json.loads(cached_arrays("bpe", key, make)["json"].tobytes())
    vocab = saved["model"]["vocab"]
    if len(vocab) != size - 1:
        raise UserError(
            f"tokenizer 'bpe:{size}': the training text yields only {len(vocab) + 1} ids; "
            f"use bpe:{len(vocab) + 1} or less, or more text"
        )
    # No merge leads to it, so no text encodes to it.
    vocab[EOS] = size - 1
    return SubwordTokenizer(f"bpe:{size}", tokenizers.Tokenizer.from_str(json.dumps(saved)), EOS)


def load_tokenizer_file(saved: object, name: str) -> SubwordTokenizer:
    """Makes a tokenizer from parsed JSON: what `to_json` wrote, or a Hugging Face tokenizer.json.

    Raises:
      UserError: it is neither, or no token of `EOS_NAMES` can end a passage.
    """
    ours = isinstance(saved, dict) and saved.get("jaxgraph") == "subword"
    try:
        model = tokenizers.Tokenizer.from_str(json.dumps(saved["tokenizer"] if ours else saved))
    except Exception as error:  # the library raises plain Exception
        raise UserError(f"tokenizer {name!r} is no tokenizer.json: {error}") from error
    if ours:
        return SubwordTokenizer(saved["name"], model, saved["eos"])
    vocab = model.get_vocab(with_added_tokens=True)
    eos = next((token for token in EOS_NAMES if token in vocab), None)
    if eos is None:
        raise UserError(
            f"tokenizer {name!r} has no token to end a passage with; "
            f"add one of {', '.join(EOS_NAMES)}"
        )
    return SubwordTokenizer(name, model, eos)


def _byte_level(bpe: models.BPE) -> tokenizers.Tokenizer:
    model = tokenizers.Tokenizer(bpe)
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    return model
