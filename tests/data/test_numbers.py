"""Numbers are of their classes, the same on every path, in one split each, and packed right."""

import dataclasses
import importlib.util
import math
import sys

import numpy as np
import pytest

from jaxgraph.data.cache import cache_path
from jaxgraph.data.config import NumbersData
from jaxgraph.data.number_classes import EASY, HARD, PRIME, draw_chunk
from jaxgraph.data.numbers import held_share, load_numbers, number_batches, pack
from jaxgraph.data.primes import make_is_prime, miller_rabin, small_primes
from jaxgraph.errors import UserError

needs_gmpy2 = pytest.mark.skipif(
    importlib.util.find_spec("gmpy2") is None, reason="needs: pip install gmpy2"
)
# Strong pseudoprimes to the bases 2; 2 to 11; 2 to 23 (OEIS A014233), and Carmichael numbers.
PSEUDOPRIMES = (2047, 2152302898747, 3825123056546413051, 561, 1729, 825265)
SMALL = NumbersData(bits=32, per_class=300)


def draw(label, generator="faithful", count=500, bits=64, backend="auto", seed=3, chunk=0):
    is_prime = make_is_prime(backend)
    return draw_chunk(
        label, chunk, count, bits=bits, generator=generator, seed=seed, is_prime=is_prime
    )


def numbers_of(split):
    return [int.from_bytes(row.tobytes(), "little") for row in split.bits]


@needs_gmpy2
@pytest.mark.parametrize("backend", ["gmpy2", "python"])
def test_primality(backend):
    is_prime = make_is_prime(backend)
    primes = set(small_primes(20_000))
    assert [n for n in range(20_000) if is_prime(n)] == sorted(primes)
    assert not any(is_prime(n) for n in PSEUDOPRIMES)
    # 2**255 - 19 is prime; 2**256 - 189 the largest prime of 256 bits.
    assert is_prime(2**255 - 19) and is_prime(2**256 - 189)
    assert not any(is_prime(2**256 - n) for n in range(1, 189))


def test_without_gmpy2(monkeypatch):
    monkeypatch.setitem(sys.modules, "gmpy2", None)
    assert make_is_prime() is miller_rabin
    with pytest.raises(UserError, match=r"not installed: pip install 'jaxgraph\[data\]'"):
        make_is_prime("gmpy2")


@needs_gmpy2
@pytest.mark.parametrize("generator", ["faithful", "debiased"])
def test_both_paths_draw_the_same_numbers(generator):
    for label in (EASY, PRIME, HARD):
        for bits in (16, 64, 256):
            settings = {"generator": generator, "count": 12, "bits": bits}
            expected = draw(label, backend="gmpy2", **settings)
            assert draw(label, backend="python", **settings) == expected


def test_numbers_never_change():
    """Pools in caches and results in docs stand on these."""
    assert draw(EASY, count=2)[1] == 10683643601347425357
    assert draw(PRIME, count=2)[1] == 14478089577787658071
    assert draw(HARD, count=2)[1] == 6791197404130431151
    assert draw(HARD, "debiased", count=2)[1] == 16460129418588809813


def test_classes():
    easy, prime = draw(EASY), draw(PRIME)
    assert all(n % 2 and n.bit_length() == 64 for n in easy + prime)
    assert all(map(miller_rabin, prime)) and not any(map(miller_rabin, easy))
    assert len(set(easy + prime)) == 1000
    for generator in ("faithful", "debiased"):
        for n in draw(HARD, generator, count=50, bits=32):
            p = next(p for p in range(3, 2**16, 2) if n % p == 0)
            assert miller_rabin(p) and miller_rabin(n // p) and p != n // p
            assert p.bit_length() == 16 or generator == "debiased"


def test_hard_composites_have_the_original_bias_or_none():
    """Top bit 1 in 2 - 2 ln 2 = 61.4 % of faithful ones; debiased ones are uniform."""
    faithful = [n for chunk in range(3) for n in draw(HARD, chunk=chunk)]
    top = np.mean([n >> 63 for n in faithful])
    assert abs(top - (2 - 2 * math.log(2))) < 4 * math.sqrt(0.614 * 0.386 / 1500)
    assert min(n.bit_length() for n in faithful) == 63
    debiased = [n for chunk in range(3) for n in draw(HARD, "debiased", chunk=chunk)]
    assert all(n >> 63 for n in debiased)
    # Kolmogorov-Smirnov: the largest distance from uniform is below 1.95 / sqrt(n) in 99.9 %.
    places = np.sort([n / 2**63 - 1 for n in debiased])
    assert np.abs(places - (np.arange(1500) + 0.5) / 1500).max() < 1.95 / math.sqrt(1500)


def test_a_larger_pool_begins_with_the_smaller():
    assert draw(PRIME, count=5) == draw(PRIME, count=20)[:5]
    assert not set(draw(PRIME, count=20)) & set(draw(PRIME, count=20, chunk=1))
    assert not set(draw(PRIME, count=20)) & set(draw(PRIME, count=20, seed=4))


def test_splits_share_no_number():
    """32-bit numbers of two pools, where chance repeats some; the split follows the number."""
    pools = [load_numbers(dataclasses.replace(SMALL, pool_seed=seed)) for seed in (0, 1)]
    seen: dict[int, str] = {}
    for pool in pools:
        assert sum(len(split.labels) for split in pool.splits.values()) == 900
        for name, split in pool.splits.items():
            for number in numbers_of(split):
                assert seen.setdefault(number, name) == name
                share = held_share(pack(number, 32).tobytes())
                kept = "validation" if share < 0.1 else "test" if share < 0.2 else "train"
                assert kept == name
    for name, share in {"train": 0.8, "validation": 0.1, "test": 0.1}.items():
        count = len(pools[0].splits[name].labels)
        assert abs(count - 900 * share) < 4 * math.sqrt(900 * share * (1 - share))


def test_bits_are_little_endian():
    number = 0b1000_0000_0000_0110
    digits = np.unpackbits(pack(number, 16), bitorder="little")
    assert digits.tolist() == [number >> i & 1 for i in range(16)]


def test_labels():
    raw, dp, both = (
        load_numbers(dataclasses.replace(SMALL, labels=labels)).splits["train"]
        for labels in ("raw", "dp", "both")
    )
    assert set(raw.labels) == {0, 1, 2}
    for label, number in zip(raw.labels, numbers_of(raw), strict=True):
        assert miller_rabin(number) == (label == PRIME)
    np.testing.assert_array_equal(dp.labels, np.array([4, 3, 5])[raw.labels])
    np.testing.assert_array_equal(both.labels[::2], raw.labels)
    np.testing.assert_array_equal(both.labels[1::2], dp.labels)
    np.testing.assert_array_equal(both.bits[::2], both.bits[1::2])
    np.testing.assert_array_equal(both.bits[::2], raw.bits)


def test_the_pool_is_cached_and_checked(monkeypatch, root):
    first = load_numbers(SMALL)
    monkeypatch.setattr("jaxgraph.data.numbers.draw_chunk", None)
    again = load_numbers(dataclasses.replace(SMALL, validation=0.2))
    assert again.sha256 == first.sha256 and again.sha256[:16] in again.description
    (path,) = (root.parent / "tokens").glob("numbers-*.npz")
    assert path == cache_path("numbers", path.stem.removeprefix("numbers-"))
    with np.load(path) as file:
        arrays = dict(file)
    arrays["bits"] = arrays["bits"] ^ np.uint8(1)
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="was changed.*delete it"):
        load_numbers(SMALL)


def test_batches():
    pool = load_numbers(SMALL)
    held = pool.splits["validation"]
    batches = number_batches(pool, "validation", batch_size=16, seed=0)
    assert len(batches) == -(-len(held.labels) // 16)
    parts = list(batches)
    mask = np.concatenate([part["mask"] for part in parts])
    assert mask.dtype == np.float32 and mask.sum() == len(held.labels)
    for key, array in {"bits": held.bits, "label": held.labels}.items():
        joined = np.concatenate([part[key] for part in parts])
        assert joined.dtype == array.dtype and len(joined) == 16 * len(batches)
        np.testing.assert_array_equal(joined[mask > 0], array)
        assert not joined[mask == 0].any()


def test_training_batches_are_endless_shuffled_and_functions_of_seed_and_index():
    pool = load_numbers(SMALL)
    total = len(pool.splits["train"].labels)
    batches = number_batches(pool, "train", batch_size=total, seed=5)
    epochs = [batches[i] for i in (0, 1, 10**9)]
    everything = sorted(numbers_of(pool.splits["train"]))
    for epoch in epochs:
        assert epoch["mask"].all()
        values = [int.from_bytes(row.tobytes(), "little") for row in epoch["bits"]]
        assert sorted(values) == everything and values != everything
    assert not np.array_equal(epochs[0]["bits"], epochs[1]["bits"])
    same, other = (number_batches(pool, "train", batch_size=total, seed=s)[0] for s in (5, 6))
    np.testing.assert_array_equal(same["bits"], epochs[0]["bits"])
    assert not np.array_equal(other["bits"], same["bits"])


def test_processes_share_a_batch():
    pool = load_numbers(SMALL)
    whole = number_batches(pool, "train", batch_size=8, seed=0)[3]
    parts = [number_batches(pool, "train", batch_size=8, seed=0, shard=(i, 2))[3] for i in range(2)]
    for key, array in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[key] for part in parts]), array)
    with pytest.raises(UserError, match="cannot be shared by 3"):
        number_batches(pool, "train", batch_size=8, seed=0, shard=(0, 3))


def test_an_empty_split_is_an_error():
    with pytest.raises(UserError, match="the test split is empty.*per_class"):
        load_numbers(NumbersData(bits=16, per_class=2, validation=0.5, test=1e-9))
    pool = load_numbers(dataclasses.replace(SMALL, validation=0.0))
    with pytest.raises(UserError, match="validation split is empty: data.validation is 0"):
        number_batches(pool, "validation", batch_size=8, seed=0)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"bits": 24}, "bits"),
        ({"bits": 8192}, "bits"),
        ({"pool_seed": 2**32}, "pool_seed"),
        ({"validation": 0.5, "test": 0.5}, "validation"),
    ],
)
def test_options(changes, key):
    assert not list(NumbersData().problems())
    ((name, message),) = NumbersData(**changes).problems()
    assert name == key and "allowed" in message
