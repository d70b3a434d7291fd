"""Reads passages out of a user's own text and JSON files."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from jaxgraph.errors import UserError


def read_passages(path: Path) -> list[str]:
    """Passages of one file, in order.

    - `.txt`: paragraphs, parted by blank lines; in a file without blank lines, lines.
    - `.jsonl`: one JSON object a line. `.json`: a list of objects. A passage is the field `text`,
      or else ``Question: {question}\\nAnswer: {answer}``.

    Raises:
      UserError: the file is missing, not UTF-8, or holds a row without text; the message names the
        file and the line (for `.json` the row, counted from 1).
    """
    if path.suffix not in READERS:
        raise UserError(
            f"{path}: cannot read {path.suffix or 'a file without ending'}; "
            f"allowed endings: {', '.join(READERS)}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text (byte {error.start}); convert it, for example with iconv"
        ) from error
    return list(READERS[path.suffix](text, path))


def passage_of(row: object, where: str) -> str:
    """The text of one JSON row; `where` names the row in errors."""
    if isinstance(row, dict):
        text, question, answer = row.get("text"), row.get("question"), row.get("answer")
        if text is None and isinstance(question, str) and isinstance(answer, str):
            text = f"Question: {question}\nAnswer: {answer}"
        if isinstance(text, str):
            return _encodable(text, where)
    got = f"fields {', '.join(row) or 'none'}" if isinstance(row, dict) else type(row).__name__
    raise UserError(
        f"{where}: needs an object with the string `text`, or the strings `question` and `answer`; "
        f"got {got}"
    )


def _encodable(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: half of a surrogate pair (\\ud800 to \\udfff) in text") from None
    return text


def _paragraphs(text: str, path: Path) -> Iterator[str]:
    text = text.strip("\n")
    parts = re.split(r"\n(?:[ \t]*\n)+", text)
    if len(parts) == 1:
        parts = text.split("\n")
    yield from parts


def _json_lines(text: str, path: Path) -> Iterator[str]:
    # Not splitlines: JSON strings may hold U+2028, which it takes for a line end.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path} line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{where}: not JSON: {error}") from error
            yield passage_of(row, where)


def _json_list(text: str, path: Path) -> Iterator[str]:
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: needs a list of objects; got {type(rows).__name__}")
    for number, row in enumerate(rows, 1):
        yield passage_of(row, f"{path} row {number}")


READERS = {".txt": _paragraphs, ".jsonl": _json_lines, ".json": _json_list}
