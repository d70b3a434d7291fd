"""Shares, scale and independence of dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.nn.dropout import dropout, keep_mask


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("width", [128, 129])  # odd: half a draw is left over
def test_a_share_is_dropped_and_the_mean_kept(rate, width):
    shape = (64, 16, width)
    out = np.asarray(dropout(jnp.ones(shape), rate, jax.random.key(0)))
    kept = out > 0
    noise = 4 * np.sqrt(rate * (1 - rate) / out.size)
    assert abs(kept.mean() - (1 - rate)) < noise
    np.testing.assert_allclose(out[kept], 1 / (1 - rate), rtol=1e-6)


def test_places_are_independent():
    """Also the two that share a draw: no more pairs agree than chance lets."""
    mask = np.asarray(keep_mask(jax.random.key(1), 0.5, (512, 256))).astype(float)
    centred = mask - mask.mean()
    for shift in (1, 2, 128):
        correlation = (centred[:, :-shift] * centred[:, shift:]).mean() / 0.25
        assert abs(correlation) < 4 / np.sqrt(mask.size), shift
    other = np.asarray(keep_mask(jax.random.key(2), 0.5, (512, 256)))
    assert abs((mask == other).mean() - 0.5) < 4 * 0.5 / np.sqrt(mask.size)


def test_no_rate_or_no_key_changes_nothing():
    x = jnp.arange(6.0).reshape(2, 3)
    assert dropout(x, 0.0, jax.random.key(0)) is x
    assert dropout(x, 0.5, None) is x


def test_everything_can_be_dropped():
    x = jnp.ones((2, 3))
    assert not dropout(x, 1.0, jax.random.key(0)).any()
