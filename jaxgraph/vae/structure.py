"""What is known of a data set before any model sees it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from jaxgraph.vae.metrics.controls import low_bits, low_parity
from jaxgraph.vae.metrics.features import top_bits
from jaxgraph.vae.metrics.intervals import wilson
from jaxgraph.vae.metrics.levels import (
    LEADING_ACCURACY,
    TOP_BIT_ACCURACY,
    leading_hits,
    top_bit_hits,
)

Packed = UInt8[np.ndarray, "n bytes"]


def _no_rules(packed: Packed, classes: Any) -> list[dict[str, Any]]:
    return []


@dataclass(frozen=True)
class Structure:
    """Features, labels and rules to compare an encoder with; empty where nothing is known."""

    features: dict[str, Callable] = field(default_factory=dict)
    """By name: packed bits to features ``[n, k]`` that a probe may be able to use."""
    controls: dict[str, Callable] = field(default_factory=dict)
    """By name: packed bits to labels ``[n]`` that surely can be read off them."""
    pairs: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By name: two classes whose telling apart is a question of its own."""
    rules: Callable[[Any, Any], list[dict[str, Any]]] = _no_rules
    """Packed bits and classes to rows of findings on rules that need no training."""


def number_structure(generator: str) -> Structure:
    """Of numbers: only the generator's leading bits tell classes apart (spec/vae.md, 17)."""
    return Structure(
        features={"top 8 bits": top_bits},
        controls={"bits 1 and 2": low_bits, "bit 1 xor bit 2": low_parity},
        pairs={"prime or easy": (0, 1)},
        rules=partial(_leading_rules, faithful=generator == "faithful"),
    )


def _leading_rules(
    packed: Packed, classes: Int[np.ndarray, " n"], *, faithful: bool
) -> list[dict[str, Any]]:
    """In theory exact for faithful numbers; debiased ones leave a third to either rule."""
    found = []
    for name, count, theory in (
        ("hard if the top bit is 0, else prime", top_bit_hits, TOP_BIT_ACCURACY),
        ("hard below 4 exp(-1/2), else prime", leading_hits, LEADING_ACCURACY),
    ):
        hits, rows = count(packed, classes)
        theory = theory if faithful else 1 / 3
        found.append({
            "rule": name, "accuracy": hits / rows, "interval": list(wilson(hits, rows)),
            "theory": theory, "rows": rows,
        })  # fmt: skip
    return found
