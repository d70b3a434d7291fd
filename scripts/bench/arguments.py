"""Readers of command-line values: each returns the value or says what is allowed."""

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from typing import Any


def one_of(allowed: Iterable[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ArgumentTypeError(f"unknown {text!r}; allowed: {', '.join(allowed)}")
        return text

    return read


def many(read: Callable[[str], Any]) -> Callable[[str], list]:
    return lambda text: list(dict.fromkeys(read(part) for part in text.split(",")))


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a count; allowed: whole numbers from 1")
    return int(text)


def share(text: str) -> float:
    # Digits and one point only: float() would also read nan, inf and 1_0.
    if not text.replace(".", "", 1).isdecimal() or float(text) >= 1:
        raise ArgumentTypeError(f"{text!r} is not a share; allowed: numbers from 0 to below 1")
    return float(text)
