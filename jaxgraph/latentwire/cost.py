"""What a wire costs beside the text it stands for: bytes, not only tokens (D11)."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxgraph.latentwire.wire import wire_bytes


def costs(
    numbers: int, bits: int, texts: Sequence[str], tokens: Mapping[str, float], slots: int
) -> dict[str, Any]:
    """Bytes of one example's wire and of its text, and tokens of a text over slots for each model.

    zlib (level 9) packs each text alone, as a wire is sent.

    Args:
      numbers: of the whole wire, the private slots of all models included.
      bits: of each of them.
      slots: that one model hears.
    """
    raw = [text.encode("utf-8") for text in texts]
    mean = lambda sizes: sum(sizes) / len(raw)  # noqa: E731
    plain, packed = mean(map(len, raw)), mean(len(zlib.compress(text, 9)) for text in raw)
    wire = {b: wire_bytes(numbers, b) for b in dict.fromkeys((16, bits))}
    found: dict[str, Any] = {f"bytes of a wire at {b} bits": size for b, size in wire.items()}
    found |= {"bytes of a text": plain, "bytes of a text in zlib": packed}
    found["text / wire bytes"] = plain / wire[bits]
    for name, count in tokens.items():
        found[f"{name}: tokens of a text / slots"] = count / slots
    return found
