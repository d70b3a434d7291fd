"""Labels with structure that is surely there: a probe that misses it is at fault."""

import numpy as np
from jaxtyping import Int64, UInt8


def low_bits(packed: UInt8[np.ndarray, "n bytes"]) -> Int64[np.ndarray, " n"]:
    """``n // 2 mod 4``: bits 1 and 2 (bit 0 is always 1). Four classes, linear in the bits."""
    return (packed[:, 0] >> 1 & 3).astype(np.int64)


def low_parity(packed: UInt8[np.ndarray, "n bytes"]) -> Int64[np.ndarray, " n"]:
    """Whether bits 1 and 2 differ: two classes that no linear model of the bits tells apart."""
    low = packed[:, 0]
    return ((low >> 1 ^ low >> 2) & 1).astype(np.int64)
