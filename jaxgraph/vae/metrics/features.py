"""What probes are compared on: the bits themselves and their principal components."""

import numpy as np
from jaxtyping import Float32, Real, UInt8


def raw_bits(packed: UInt8[np.ndarray, "n bytes"]) -> Float32[np.ndarray, "n d"]:
    """All bits, the least significant first: without noise, so at least as good as with it."""
    return np.unpackbits(packed, axis=1, bitorder="little").astype(np.float32)


def top_bits(packed: UInt8[np.ndarray, "n bytes"], count: int = 8) -> Float32[np.ndarray, "n k"]:
    """The most significant bits: what tells faithful hard composites from the others."""
    return raw_bits(packed)[:, -count:]


def principal_components(
    train: Real[np.ndarray, "n d"], *others: Real[np.ndarray, "_ d"], count: int
) -> list[Float32[np.ndarray, "_ k"]]:
    """Coordinates of each array along the directions in which `train` varies most."""
    mean = train.mean(0, dtype=np.float64)
    _, vectors = np.linalg.eigh(np.cov(train, rowvar=False, dtype=np.float64))
    directions = vectors[:, ::-1][:, :count]
    return [((array - mean) @ directions).astype(np.float32) for array in (train, *others)]
