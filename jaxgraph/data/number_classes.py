"""Numbers of the three classes, drawn as the original draws them or without its artefact.

Source: spec/vae.md, section 16.1. Chunk j of a class follows from the seed, the class and j alone,
so a larger pool begins with the smaller one.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Literal

import numpy as np

from jaxgraph.data.primes import IsPrime

EASY, PRIME, HARD = 0, 1, 2
CHUNK = 500
Generator = Literal["faithful", "debiased"]


def draw_chunk(
    label: int,
    chunk: int,
    count: int = CHUNK,
    *,
    bits: int,
    generator: Generator,
    seed: int,
    is_prime: IsPrime,
) -> list[int]:
    """The first `count` odd numbers of a chunk of one class.

    - easy: uniform odd numbers with the top bit set that are not prime.
    - prime: the same that are.
    - hard: products of two different primes. `faithful`: both of ``bits / 2`` bits and uniform, so
      that the product has its top bit 0 in 38.6 % of cases (2 ln 2 - 1). `debiased`: the first as
      before, the second uniform among the primes that bring the product into
      ``[2**(bits-1), 2**bits)``. The product is then uniform there, but for the thinning of primes:
      its density falls by 0.8 % over the range (primes' own: by 0.4 %).

    Args:
      label: EASY, PRIME or HARD.
      chunk: which; chunks are independent.
      count: `CHUNK` or less.
      bits: binary digits, even.
      generator: as above.
      seed: below 2**32.
      is_prime: a test that accepts all primes.
    """
    # Philox's raw stream is one that NumPy promises never to change.
    source = np.random.Philox(key=np.array([seed, label << 32 | chunk], np.uint64))
    if label == HARD:
        numbers = _products(source, bits, generator, is_prime)
    else:
        numbers = (n for n in _odd(source, bits) if is_prime(n) == (label == PRIME))
    return list(islice(numbers, count))


def _products(
    source: np.random.Philox, bits: int, generator: Generator, is_prime: IsPrime
) -> Iterator[int]:
    primes = (n for n in _odd(source, bits // 2) if is_prime(n))
    if generator == "faithful":
        while True:
            p, q = next(primes), next(primes)
            if p != q:
                yield p * q
    # Read word by word, so that primes and fractions share one stream.
    fractions = _uniform(source, bits)
    for p in primes:
        q = _second_factor(p, bits, fractions, is_prime)
        if p != q:
            yield p * q


def _second_factor(p: int, bits: int, fractions: Iterator[int], is_prime: IsPrime) -> int:
    """A prime q, uniform among those with ``p * q`` in ``[2**(bits-1), 2**bits)``."""
    low, high = -(-(1 << (bits - 1)) // p), ((1 << bits) - 1) // p
    candidates = (low + (x * (high - low + 1) >> bits) for x in fractions)
    return next(q for q in candidates if q % 2 and is_prime(q))


def _odd(source: np.random.Philox, bits: int) -> Iterator[int]:
    ends = 1 << (bits - 1) | 1
    return (n | ends for n in _uniform(source, bits))


def _uniform(source: np.random.Philox, bits: int) -> Iterator[int]:
    """Integers in ``[0, 2**bits)``."""
    words, mask = -(-bits // 64), (1 << bits) - 1
    while True:
        raw = source.random_raw(words).astype("<u8").tobytes()
        yield int.from_bytes(raw, "little") & mask
