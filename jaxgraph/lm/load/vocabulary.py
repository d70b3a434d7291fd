"""Tokenizers out of bare vocabularies and merges: those inside GGUF files, and glassllm's."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from jaxgraph.errors import UserError
from jaxgraph.lm.load.tokenizer import LmTokenizer

CONTROL = 3
"""GGUF's type of tokens that no text spells."""
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Contractions, words, numbers (by family), signs, spaces: how Llama 3 and Qwen2 cut text."""
GLASS_SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
GLASS_CHUNKS = r"\n|▁*[^▁\n]+|▁+"


def gguf_tokenizer(values: Mapping[str, Any], path: Path) -> LmTokenizer:
    """The byte-level BPE of a GGUF header.

    Raises:
      UserError: the file holds another kind of tokenizer, or none.
    """
    kind, split = values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or split not in SPLITS:
        raise UserError(
            f"tokenizer {kind!r} with splitting {split!r} of {path} is not supported; allowed: "
            f"'gpt2' with {', '.join(SPLITS)}"
        )
    tokens = values["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in values["tokenizer.ggml.merges"]]
    model = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    model.pre_tokenizer = pre_tokenizers.Sequence(SPLITS[split])
    model.decoder = decoders.ByteLevel()
    types = values.get("tokenizer.ggml.token_type", [])
    model.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, type_ in zip(tokens, types, strict=False)
            if type_ == CONTROL
        ]
    )
    bos, eos, pad = (
        values.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "padding")
    )
    if values.get("tokenizer.ggml.add_bos_token") and bos is not None:
        _begin_with(model, tokens[bos], bos)
    return LmTokenizer(model, bos, eos, pad)


def glass_tokenizer(path: Path) -> LmTokenizer:
    """The character BPE of a model of glassllm 0.1.0, whose spaces are written ▁."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        alphabet, merges = saved["alphabet"], [tuple(pair) for pair in saved["merges"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a tokenizer of glassllm ({error})") from error
    vocab = _numbered([*GLASS_SPECIALS, *alphabet, *(a + b for a, b in merges)])
    model = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>"))
    spaces = normalizers.Replace(" ", "▁")
    model.normalizer = normalizers.Sequence([normalizers.NFC(), spaces])
    model.pre_tokenizer = pre_tokenizers.Split(Regex(GLASS_CHUNKS), "isolated")
    model.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    model.add_special_tokens(list(GLASS_SPECIALS))
    return LmTokenizer(model, vocab["<bos>"], vocab["<eos>"], vocab["<pad>"])


def _numbered(tokens: Sequence[str]) -> dict[str, int]:
    """Ids by place; of a token that occurs twice the later place, as the original has it."""
    return {token: i for i, token in enumerate(tokens)}


def _begin_with(model: Tokenizer, token: str, number: int) -> None:
    model.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A $B", special_tokens=[(token, number)]
    )


def _words(numbers: str) -> list[Any]:
    return [
        pre_tokenizers.Split(Regex(WORDS % numbers), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


SPLITS: dict[str, list[Any]] = {
    "smollm": [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ],
    "default": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "llama-bpe": _words(r"\p{N}{1,3}"),
    "qwen2": _words(r"\p{N}"),
}
"""How text is cut before merging, by the name in `tokenizer.ggml.pre`."""
