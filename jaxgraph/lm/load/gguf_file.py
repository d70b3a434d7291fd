"""GGUF files: a header of typed values, and tensors that may be quantised in blocks of 32.

Format: GGUF versions 2 and 3 (ggml's docs/gguf.md). Nothing but numpy reads it.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxgraph.errors import UserError
from jaxgraph.lm.load.params import Tensor

SCALARS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?",
           10: "<u8", 11: "<i8", 12: "<f8"}  # fmt: skip
STRING, ARRAY = 8, 9
BLOCK = 32
"""Weights of a quantised block."""


class Gguf(NamedTuple):
    """Header and tensors of a file, by their own names."""

    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


class Kind(NamedTuple):
    """A type of tensors: `count` weights lie in each item of `item`."""

    item: np.dtype
    count: int
    decode: Callable[[np.ndarray], np.ndarray]
    """Items to weights."""
    dtype: Any = np.float32


def _q4_1(blocks: np.ndarray) -> np.ndarray:
    """scale · q + minimum; the low halves of the bytes come first."""
    q = np.concatenate([blocks["q"] & 15, blocks["q"] >> 4], axis=1)
    return _wide(blocks["scale"]) * q + _wide(blocks["minimum"])


def _q8_0(blocks: np.ndarray) -> np.ndarray:
    return _wide(blocks["scale"]) * blocks["q"]


def _wide(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.float32)[:, None]


SCALE = ("scale", "<f2")
KINDS = {
    0: Kind(np.dtype("<f4"), 1, np.asarray),
    1: Kind(np.dtype("<f2"), 1, np.asarray, np.float16),
    3: Kind(np.dtype([SCALE, ("minimum", "<f2"), ("q", "u1", BLOCK // 2)]), BLOCK, _q4_1),
    8: Kind(np.dtype([SCALE, ("q", "i1", BLOCK)]), BLOCK, _q8_0),
    30: Kind(jnp.dtype(jnp.bfloat16), 1, np.asarray, jnp.bfloat16),
}
NAMES = "F32, F16, BF16, Q4_1, Q8_0"


def read_gguf(path: Path) -> Gguf:
    """Reads the header; tensors are decoded when they are read.

    Raises:
      UserError: no such file, not a whole GGUF file, or a type of tensors other than `NAMES`.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    try:
        return _parse(path, data)
    except (IndexError, UnicodeDecodeError, KeyError) as error:
        raise UserError(f"{path} is not a whole GGUF file ({error}); fetch it again") from error


class _Reader:
    """A place in the bytes of a file."""

    def __init__(self, data: np.ndarray):
        self.data, self.at = data, 0

    def take(self, size: int) -> np.ndarray:
        if size > len(self.data) - self.at:
            raise IndexError(f"{size} bytes wanted at {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def numbers(self, dtype: str, count: int) -> np.ndarray:
        dtype = np.dtype(dtype)
        return self.take(dtype.itemsize * count).view(dtype)

    def number(self, dtype: str) -> Any:
        return self.numbers(dtype, 1)[0].item()

    def string(self) -> str:
        return self.take(self.number("<u8")).tobytes().decode()

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.number(SCALARS[kind])
        kind, count = self.number("<u4"), self.number("<u8")
        if kind in SCALARS:
            return self.numbers(SCALARS[kind], count).tolist()
        return [self.value(kind) for _ in range(count)]


def _parse(path: Path, data: np.ndarray) -> Gguf:
    reader = _Reader(data)
    if reader.take(4).tobytes() != b"GGUF" or (version := reader.number("<u4")) not in (2, 3):
        raise UserError(f"{path} is not a GGUF file of version 2 or 3")
    del version
    tensor_count, value_count = reader.number("<u8"), reader.number("<u8")
    values = {}
    for _ in range(value_count):
        key = reader.string()
        values[key] = reader.value(reader.number("<u4"))
    infos = []
    for _ in range(tensor_count):
        name, axes = reader.string(), reader.number("<u4")
        # The fastest axis comes first.
        shape = tuple(reader.numbers("<u8", axes).tolist()[::-1])
        infos.append((name, shape, reader.number("<u4"), reader.number("<u8")))
    step = values.get("general.alignment", BLOCK)
    start = math.ceil(reader.at / step) * step
    tensors = {}
    for name, shape, kind, offset in infos:
        if kind not in KINDS:
            raise UserError(f"{name} of {path} has ggml type {kind}; supported: {NAMES}")
        form = KINDS[kind]
        items, rest = divmod(math.prod(shape), form.count)
        size, begin = items * form.item.itemsize, start + offset
        if rest or begin + size > len(data):
            raise IndexError(f"{name} ends behind the file")
        read = partial(_decode, data[begin : begin + size], form, shape)
        tensors[name] = Tensor(shape, np.dtype(form.dtype), read)
    return Gguf(values, tensors)


def _decode(data: np.ndarray, form: Kind, shape: tuple[int, ...]) -> np.ndarray:
    return form.decode(np.asarray(data).view(form.item)).reshape(shape)
