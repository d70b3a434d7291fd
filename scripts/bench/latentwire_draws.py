"""Inputs of a LatentWire row, the same on both sides."""

import numpy as np


def draw(row) -> dict[str, np.ndarray]:
    """Texts as bytes and as tokens, answers, and soft prompts before calibration."""
    rng, sizes = np.random.default_rng(row.seed), row.sizes
    ids = lambda length, top: rng.integers(0, top, (row.batch, length)).astype(np.int32)  # noqa: E731
    prompt = rng.normal(size=(row.batch, sizes.slots, sizes.lm_width)).astype(np.float32)
    return {
        "bytes": ids(sizes.bytes, 256), "text": ids(sizes.text, sizes.vocab),
        "answer": ids(sizes.answer, sizes.vocab), "prompt": prompt,
    }  # fmt: skip
