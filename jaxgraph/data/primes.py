"""Is a number prime? With gmpy2 where it is installed, in plain Python elsewhere: same answers.

Both tests can only err by calling a composite prime. For random odd numbers of 128 bits and more
that is below 1e-15 a number (Damgård, Landrock and Pomerance 1993), and neither is known to have
erred on one.
"""

import math
from collections.abc import Callable
from typing import Literal

from jaxgraph.errors import UserError

IsPrime = Callable[[int], bool]
Backend = Literal["auto", "gmpy2", "python"]
ROUNDS = 25
# Enough for a proof below 3.3e24 (Sorenson and Webster 2015).
BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)


def make_is_prime(backend: Backend = "auto") -> IsPrime:
    """The primality test of a backend; `auto` takes gmpy2 if it is there.

    Raises:
      UserError: gmpy2 was asked for and is not installed.
    """
    if backend == "python":
        return miller_rabin
    try:
        import gmpy2
    except ImportError as error:
        if backend == "gmpy2":
            raise UserError("gmpy2 is not installed: pip install 'jaxgraph[data]'") from error
        return miller_rabin
    return lambda n: gmpy2.is_prime(n, ROUNDS)


def miller_rabin(n: int) -> bool:
    """Trial division, then the test of Miller and Rabin with fixed bases."""
    if n <= SMALL[-1]:
        return n in SMALL
    if math.gcd(n, PRODUCT) != 1:
        return False
    twos = ((n - 1) & (1 - n)).bit_length() - 1
    odd = (n - 1) >> twos
    return all(_passes(n, base, odd, twos) for base in BASES)


def _passes(n: int, base: int, odd: int, twos: int) -> bool:
    power = pow(base, odd, n)
    if power in (1, n - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % n
        if power == n - 1:
            return True
    return False


def small_primes(limit: int) -> tuple[int, ...]:
    """Primes up to `limit`, by the sieve of Eratosthenes."""
    sieve = bytearray([1]) * (limit + 1)
    sieve[:2] = bytes(2)
    for i in range(2, math.isqrt(limit) + 1):
        if sieve[i]:
            sieve[i * i :: i] = bytes(len(sieve[i * i :: i]))
    return tuple(i for i, prime in enumerate(sieve) if prime)


SMALL = small_primes(1000)
PRODUCT = math.prod(SMALL)
