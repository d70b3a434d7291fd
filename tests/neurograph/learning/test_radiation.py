"""Radiation against a slow twin that walks from node to node."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.neurograph.learning.radiation import choose, radiate


def walk(signals, weights, top_k):
    """Complex signals [b, n, c] and weights [n, c]: sums of messages, and who sent to whom."""
    sums, sent = np.zeros_like(signals), np.zeros((*signals.shape[:2], signals.shape[1]))
    for b, sample in enumerate(signals):
        for s, source in enumerate(sample):
            scores = {t: (source * weights[t]).real.sum() for t in range(len(sample)) if t != s}
            for t in sorted(scores, key=lambda t: (-scores[t], t))[:top_k]:
                if scores[t] > 0:
                    sums[b, t] += source * weights[t]
                    sent[b, s, t] = 1
    return sums, sent


@pytest.mark.parametrize("parts", [1, 2])
def test_radiation_equals_its_slow_twin(parts):
    rng = np.random.default_rng(parts)
    whole = lambda *shape: rng.integers(-6, 7, shape).astype(np.float32)  # noqa: E731
    signals, weights = whole(3, 2, 3, 4 * parts), whole(parts, 6, 4)
    signals[0, 0, 0] = 0  # a silent node sends nothing
    complex_of = lambda x: x[0] + (1j * x[1] if parts == 2 else 0)  # noqa: E731
    flat = signals.reshape(3, 6, parts, 4)
    sums, sent = walk(complex_of(np.moveaxis(flat, 2, 0)), complex_of(weights), 2)
    found, who = radiate(jnp.asarray(signals), jnp.asarray(weights), 2)
    np.testing.assert_array_equal(who, sent)
    expected = np.concatenate([sums.real, sums.imag][:parts], axis=-1)
    np.testing.assert_array_equal(np.asarray(found).reshape(3, 6, -1), expected)


def test_equal_scores_go_to_the_lowest_node_and_never_to_itself():
    chosen = choose(jnp.ones((1, 1, 4, 2)), jnp.ones((1, 4, 2)), 1)[0]
    assert np.argwhere(chosen).tolist() == [[0, 1], [1, 0], [2, 0], [3, 0]]
