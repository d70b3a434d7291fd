"""Pools of primes, easy and hard composites as packed bits, split by number, and their batches."""

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import grain
import numpy as np
from jaxtyping import Int32, UInt8
from rich.console import Console
from rich.progress import track

from jaxgraph.data.cache import cache_path, cached_arrays, content_key
from jaxgraph.data.config import NumbersData
from jaxgraph.data.number_classes import CHUNK, EASY, HARD, PRIME, draw_chunk
from jaxgraph.data.primes import Backend, make_is_prime
from jaxgraph.data.rows import row_batches
from jaxgraph.data.text import SplitName
from jaxgraph.errors import UserError

DP_LABELS = {EASY: 4, PRIME: 3, HARD: 5}
"""Labels of the same classes in the stream that the original calls DP; its numbers and its noise
are those of the raw stream (spec/vae.md, 16.2)."""
RESULT_VERSION = "1"
"""Part of the cache's key: raised when the same options would give other numbers."""


@dataclass(frozen=True)
class NumberSplit:
    """Numbers of a split."""

    bits: UInt8[np.ndarray, "n bytes"]
    """Bit j of byte i is binary digit ``8 i + j`` of the number, the least significant being 0:
    ``np.packbits(..., bitorder="little")`` of the model's input."""
    labels: Int32[np.ndarray, " n"]


@dataclass(frozen=True)
class Numbers:
    """A pool in three splits that share no number."""

    splits: dict[SplitName, NumberSplit]
    sha256: str
    """Of the pool's bits, before splits and labels."""
    description: str


def load_numbers(config: NumbersData, backend: Backend = "auto") -> Numbers:
    """Makes the pool that a config describes, or takes it from the cache, and splits it.

    A number's split follows from the number alone (`number_split`), so pools of different seeds,
    sizes and generators agree on what is held out.

    Raises:
      UserError: a split that should hold something is empty, or the cached pool was changed.
    """
    bits, labels, digest = _pool(config, backend)
    share = np.array([held_share(number.tobytes()) for number in bits])
    held = config.validation + config.test
    members = {
        "train": share >= held,
        "validation": share < config.validation,
        "test": (share >= config.validation) & (share < held),
    }
    shares = {"train": 1 - held, "validation": config.validation, "test": config.test}
    splits = {}
    for name, member in members.items():
        if shares[name] > 0 and not member.any():
            raise UserError(
                f"the {name} split is empty: {shares[name]:.3g} of {len(bits)} numbers; give a "
                "larger data.per_class"
            )
        splits[name] = _labelled(bits[member], labels[member], config.labels)
    counts = ", ".join(f"{len(split.labels)} {name}" for name, split in splits.items())
    description = (
        f"{config.bits}-bit numbers, {config.generator}, labels {config.labels}, seed "
        f"{config.pool_seed}: {counts}; sha256 {digest[:16]}"
    )
    return Numbers(splits, digest, description)


def number_batches(
    numbers: Numbers,
    split: SplitName,
    *,
    batch_size: int,
    seed: int,
    shard: tuple[int, int] = (0, 1),
) -> grain.MapDataset:
    """Batches of `bits` uint8 ``[b, D/8]``, `label` int32 ``[b]``, `mask` float32 ``[b]``.

    `train` is endless and shuffled anew each epoch, `validation` and `test` run once in order; see
    `row_batches` for `shard` and errors.
    """
    held = numbers.splits[split]
    if not len(held.labels):
        raise UserError(f"the {split} split is empty: data.{split} is 0; give it a share above 0")
    return row_batches(
        {"bits": held.bits, "label": held.labels},
        endless=split == "train",
        batch_size=batch_size,
        seed=seed,
        shard=shard,
    )


def held_share(number: bytes) -> float:
    """A number's place in [0, 1), by the SHA-256 of its little-endian bytes: below `validation` it
    is held out for validation, then for the test, else trained on."""
    return int.from_bytes(hashlib.sha256(number).digest()[:8]) / 2**64


def pack(number: int, bits: int) -> UInt8[np.ndarray, " bytes"]:
    """The bits of a number, as `NumberSplit.bits` holds them."""
    return np.frombuffer(number.to_bytes(bits // 8, "little"), np.uint8)


def _labelled(
    bits: UInt8[np.ndarray, "n bytes"], labels: Int32[np.ndarray, " n"], stream: str
) -> NumberSplit:
    dp = np.array([DP_LABELS[label] for label in (EASY, PRIME, HARD)], np.int32)[labels]
    if stream == "both":
        # Side by side, as the original sends them.
        return NumberSplit(bits.repeat(2, 0), np.stack([labels, dp], 1).reshape(-1))
    return NumberSplit(bits, labels if stream == "raw" else dp)


def _pool(
    config: NumbersData, backend: Backend
) -> tuple[UInt8[np.ndarray, "n bytes"], Int32[np.ndarray, " n"], str]:
    """Classes take turns, so that a batch in order is balanced."""
    made = ("bits", "per_class", "generator", "pool_seed")
    key = content_key([RESULT_VERSION, *(f"{name}={asdict(config)[name]}" for name in made)])

    def make() -> dict[str, np.ndarray]:
        bits = np.stack([_class(config, label, backend) for label in (EASY, PRIME, HARD)], 1)
        bits = bits.reshape(-1, config.bits // 8)
        return {"bits": bits, "sha256": np.array(_digest(bits))}

    arrays = cached_arrays("numbers", key, make)
    bits, digest = arrays["bits"], str(arrays["sha256"])
    if _digest(bits) != digest:
        path = cache_path("numbers", key)
        raise UserError(f"{path} was changed: its numbers do not have its sha256; delete it")
    labels = np.tile(np.array([EASY, PRIME, HARD], np.int32), config.per_class)
    return bits, labels, digest


def _class(config: NumbersData, label: int, backend: Backend) -> UInt8[np.ndarray, "n bytes"]:
    is_prime = make_is_prime(backend)
    numbers: list[int] = []
    name = {EASY: "easy composites", PRIME: "primes", HARD: "hard composites"}[label]
    for chunk in _progress(range(-(-config.per_class // CHUNK)), name, config):
        count = min(CHUNK, config.per_class - len(numbers))
        numbers += draw_chunk(
            label,
            chunk,
            count,
            bits=config.bits,
            generator=config.generator,
            seed=config.pool_seed,
            is_prime=is_prime,
        )
    return np.stack([pack(n, config.bits) for n in numbers])


def _progress(chunks: range, name: str, config: NumbersData) -> Iterable[int]:
    """A bar on a terminal, one line elsewhere, nothing for what takes no time."""
    if config.per_class * config.bits < 1_000_000:
        return chunks
    text = f"making {config.per_class} {name} of {config.bits} bits (once)"
    if not sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)
        return chunks
    return track(chunks, text, console=Console(stderr=True), transient=True)


def _digest(bits: UInt8[np.ndarray, "n bytes"]) -> str:
    return hashlib.sha256(bits.tobytes()).hexdigest()
