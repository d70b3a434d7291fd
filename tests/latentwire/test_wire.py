"""Wires in few bits, and what judges an answer."""

import zlib

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.latentwire.answers import clean
from jaxgraph.latentwire.conditions import pooled
from jaxgraph.latentwire.cost import costs
from jaxgraph.latentwire.intervals import bootstrap
from jaxgraph.latentwire.wire import diversity, quantise, wire_bytes


def test_rounding_errors_are_below_half_a_step_of_each_group():
    z = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6)) * [1, 1, 1, 1, 1, 100.0])
    found = quantise(z.astype(jnp.float32), 4, group=6)
    step = np.abs(z).max(-1, keepdims=True) / 7
    assert (np.abs(found - z) <= step / 2 + 1e-5).all() and not np.allclose(found, z)
    assert np.array_equal(quantise(z, 16), z) and not quantise(0 * z, 8).any()


def test_bytes_are_those_of_one_example():
    assert wire_bytes(32 * 256, 16) == 16384  # spec/latentwire.md, D11: 16 KiB
    assert wire_bytes(32 * 256, 4) == 4096 + 256 * 2
    text = "to be or not to be " * 8
    found = costs(2 * 8, 8, [text], {"one": 40.0}, 2)
    assert found["bytes of a text"] == len(text)
    assert found["bytes of a text in zlib"] == len(zlib.compress(text.encode(), 9))
    assert found["text / wire bytes"] == len(text) / (16 + 2)
    assert found["one: tokens of a text / slots"] == 20


def test_pooled_means_leave_padding_and_anchor_out():
    vectors = jnp.asarray([[9.0, 1, 3, 5, 7, 2, 9], [9, 9, 9, 9, 4, 6, 9]])[..., None]
    mask = jnp.asarray([[0, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1]]) > 0
    found = pooled(vectors, mask, 2, 1)[..., 0]
    assert np.allclose(found, [[3.0, 4.5], [4.0, 6.0]])


def test_diversity_tells_collapse():
    z = jnp.asarray(np.random.default_rng(1).normal(size=(64, 3, 8)))
    every = jnp.ones(64, bool)
    assert float(diversity(z, every)) == pytest.approx(2**0.5, rel=0.05)
    assert float(diversity(jnp.ones((64, 3, 8)), every)) == 0
    # What stands in padding does not count.
    real = jnp.arange(64) < 40
    blotted = jnp.where(real[:, None, None], z, 99.0)
    assert float(diversity(blotted, real)) == pytest.approx(float(diversity(z, real)), rel=1e-6)


def test_intervals_hold_the_mean_and_shrink():
    values = np.random.default_rng(0).normal(1.0, 1.0, 400)
    few, many = (bootstrap(values[:n], np.ones(n), 500) for n in (50, 400))
    assert many[0] < 1 < many[1] and many[1] - many[0] < (few[1] - few[0]) / 2
    # Of a mean, 95 % lie within 1.96 standard errors.
    width = 2 * 1.96 * values.std() / 20
    fine = bootstrap(values, np.ones(400), 4000)
    assert fine[1] - fine[0] == pytest.approx(width, rel=0.06)


def test_only_the_first_line_counts():
    assert clean("\n The Eiffel Tower.\nAnd more") == "The Eiffel Tower"
    assert clean("ANSWER: yes<|im_end|>no") == "yes"
