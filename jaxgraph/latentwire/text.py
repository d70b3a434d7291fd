"""What an encoder reads: bytes of a text (spec/latentwire.md, sections 1 and 2.7)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int32, Integer

SYSTEM_PROMPT = (
    "You are a concise QA assistant. Use the context to answer with a short phrase only."
)


def to_bytes(text: str, max_bytes: int) -> list[int]:
    """UTF-8 bytes, cut after `max_bytes` even inside a character."""
    return list(text.encode("utf-8")[:max_bytes])


def collate(
    rows: Sequence[Sequence[int]], width: int | None = None
) -> tuple[Int32[np.ndarray, "b t"], Bool[np.ndarray, "b t"]]:
    """Rows padded with 0 on the right to the longest or to `width`, and where they are real.

    There is at least one column, also where all rows are empty.
    """
    width = max(1, *(len(row) for row in rows)) if width is None else width
    ids, real = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        real[i, : len(row)] = True
    return ids, real


def neutral_chat(text: str) -> str:
    """The text as a chat that belongs to no model's template."""
    return f"System: {SYSTEM_PROMPT}\nUser: {text}\nAssistant:"


def split_anchor(text: str, anchor: str) -> tuple[str, str]:
    """The text in front of the last anchor in it, and the anchor itself."""
    at = text.rfind(anchor.strip()) if anchor.strip() else -1
    return (text if at < 0 else text[:at].rstrip()), anchor


def wants_bos(mode: str, anchor: Sequence[int] | None) -> bool:
    """Whether a BOS stands behind the soft prompt: "yes", "no", or "auto": without an anchor."""
    return mode == "yes" or (mode == "auto" and not anchor)


def first_ids(
    ids: Integer[np.ndarray, "b t"], pad: int, bos: int | None
) -> Int32[np.ndarray, " b"]:
    """Each row's first token that is not padding, or the one behind it if that is BOS; `pad` where
    there is none."""
    found = []
    for row in ids.tolist():
        real = next((i for i, token in enumerate(row) if token != pad), len(row))
        real += real < len(row) and row[real] == bos
        found.append(row[real] if real < len(row) else pad)
    return np.asarray(found, np.int32)
