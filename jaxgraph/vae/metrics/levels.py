"""What can be learnt at all: exact levels of likelihood and accuracy for noisy bits of numbers.

Source: spec/vae.md, section 17. Nats a number. Bits lie 20 standard deviations apart at the
original's noise, so a noisy bit is as good as the bit; formulas hold for ``sigma <= 0.1``.
"""

import math

import numpy as np
from jaxtyping import Float64, UInt8

# Product of two numbers uniform on [2**(k-1), 2**k), as a share of 2**(2k): density of
# w = n / 2**(2k-2) is ln w on [1, 2] and ln(4/w) on [2, 4]; other classes are uniform on [2, 4].
HARD_TOP_BIT = 2 - 2 * math.log(2)
"""Share of faithful hard composites whose top bit is 1: 0.6137. Others: 1."""
TOP_BIT_ACCURACY = (2 - HARD_TOP_BIT) / 3
"""Of "hard if the top bit is 0, else one of the others": 0.4621."""
LEADING_THRESHOLD = 4 * math.exp(-0.5)
"""Hard composites are likelier below this w: 2.4261."""
LEADING_ACCURACY = (
    1.5 * LEADING_THRESHOLD - 2 * math.log(2) - 2 + (1 - HARD_TOP_BIT) + 2 - LEADING_THRESHOLD / 2
) / 3
"""Of the best rule that reads the leading bits alone: 0.4754."""


def noise_floor(bits: int, sigma: float) -> float:
    """-log p where all bits are known: ``D (ln sigma + ln(2 pi) / 2 + 1/2)``."""
    return bits * (math.log(sigma) + 0.5 * math.log(2 * math.pi) + 0.5)


def constant_decoder(
    shares: Float64[np.ndarray, " d"],
    sigma: float,
    predicted: Float64[np.ndarray, " d"] | None = None,
) -> float:
    """-log p of a decoder that ignores z and gives each bit a fixed probability.

    Args:
      shares: how often each bit is 1 in the data that is judged.
      sigma: of the noise.
      predicted: what the decoder says; the shares themselves where None, which is best.
    """
    predicted = shares if predicted is None else predicted
    ones = np.where(shares > 0, -shares * np.log(np.where(predicted > 0, predicted, 1)), 0)
    zeros = np.where(
        shares < 1, -(1 - shares) * np.log1p(-np.where(predicted < 1, predicted, 0)), 0
    )
    impossible = ((predicted == 0) & (shares > 0)) | ((predicted == 1) & (shares < 1))
    if impossible.any():
        return math.inf
    return noise_floor(len(shares), sigma) + float((ones + zeros).sum())


def rate_line(rate: float, bits: int, sigma: float, fair_bits: int | None = None) -> float:
    """Least -log p at a rate (KL) of so many nats, for independent fair bits: slope -1.

    Args:
      rate: nats in z.
      bits: D.
      sigma: of the noise.
      fair_bits: bits that are not constant; `bits` - 2 where None (first and last bit are 1).
    """
    fair = bits - 2 if fair_bits is None else fair_bits
    return noise_floor(bits, sigma) + max(0.0, fair * math.log(2) - rate)


def unlimited_gain(bits: int) -> dict[str, float]:
    """Nats that unlimited computation would gain over fair bits, were the class known.

    Primes: log of the odd numbers of that size for each prime; hard composites: for each product of
    two primes of half the size.
    """
    spacing = lambda k: (k - 0.5) * math.log(2)  # noqa: E731
    return {
        "easy": 0.0,
        "prime": math.log(spacing(bits) / 2),
        "hard": math.log(2 * spacing(bits / 2) ** 2),
    }


def bit_shares(packed: UInt8[np.ndarray, "n bytes"]) -> Float64[np.ndarray, " d"]:
    """How often each bit is 1, the least significant first."""
    return np.unpackbits(packed, axis=1, bitorder="little").mean(0)


def top_bit_hits(packed: UInt8[np.ndarray, "n bytes"], labels: np.ndarray) -> tuple[int, int]:
    """Right answers, and all, of "hard (2) if the top bit is 0, else prime (1)"."""
    guess = np.where(packed[:, -1] >> 7, 1, 2)
    return int((guess == labels).sum()), len(labels)


def leading_hits(packed: UInt8[np.ndarray, "n bytes"], labels: np.ndarray) -> tuple[int, int]:
    """Right answers, and all, of "hard (2) below `LEADING_THRESHOLD`, else prime (1)".

    Reads the two leading bytes: w is their value over 2**14.
    """
    leading = packed[:, -1].astype(np.int64) * 256 + packed[:, -2]
    guess = np.where(leading / 2**14 < LEADING_THRESHOLD, 2, 1)
    return int((guess == labels).sum()), len(labels)
