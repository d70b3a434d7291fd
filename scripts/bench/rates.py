"""Shares of a GPU's peak: matrix FLOPs of a program, counted exactly, and peaks of known cards."""

import math
from collections.abc import Callable, Iterator
from typing import Any

FORMULA = (
    "MFU = matrix FLOPs of the forward pass (every loop times its trip count; XLA's cost analysis "
    "counts a loop's body once) x 3 for training (recomputation does not count) / time / peak"
)
SXM = {"float32": 67e12, "bfloat16": 989e12}
A100 = {"float32": 19.5e12, "bfloat16": 312e12}
PEAKS = {
    "NVIDIA H200": SXM,
    "NVIDIA H100 80GB HBM3": SXM,
    "NVIDIA A100-SXM4-40GB": A100,
    "NVIDIA A100-SXM4-80GB": A100,
    "NVIDIA A100 80GB PCIe": A100,
}
"""FLOP/s without sparsity, by JAX's name of the device (NVIDIA's data sheets). float32 runs at
precision `highest`, hence not on tensor cores. A card that is not here gets no MFU."""


def utilisation(device: str, dtype: str, flops: float, ms: float) -> float | None:
    """Share of the card's peak rate, or None when its peak is not known."""
    peak = PEAKS.get(device, {}).get(dtype)
    return flops / (ms / 1000) / peak if peak else None


def matmul_flops(jaxpr: Any, branch: Callable) -> float:
    """2 x multiply-adds of all matrix products of a jaxpr; `branch` chooses among those of a
    conditional's branches (`max` where the dear side runs, `min` where it sleeps).

    Raises:
      ValueError: a matrix product in a loop whose trip count the program does not say.
    """
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(left[i] for i in contracted)
            continue
        parts = [matmul_flops(part, branch) for part in _inside(params)]
        if name == "while" and any(parts):
            raise ValueError("a matrix product in a `while`, whose trip count is not known")
        if parts:
            total += params.get("length", 1) * (branch(parts) if name == "cond" else sum(parts))
    return total


def _inside(params: dict[str, Any]) -> Iterator[Any]:
    """Programs within an equation's parameters."""
    for value in params.values():
        for part in value if isinstance(value, (tuple, list)) else [value]:
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part
