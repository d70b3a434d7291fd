"""The chunked vocabulary loss against the plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.nn.losses import chunked_cross_entropy, cross_entropy


def setting(batch=3, length=7, width=5, vocab=11):
    keys = jax.random.split(jax.random.key(0), 5)
    hidden = jax.random.normal(keys[0], (batch, length, width))
    kernel = jax.random.normal(keys[1], (width, vocab))
    bias = jax.random.normal(keys[2], (vocab,))
    targets = jax.random.randint(keys[3], (batch, length), 0, vocab)
    weights = jax.random.bernoulli(keys[4], 0.6, (batch, length)).astype(jnp.float32)
    return hidden, kernel, bias, targets, weights


def test_cross_entropy_of_known_probabilities():
    probs = jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    found = cross_entropy(jnp.log(probs) + 3.0, jnp.array([0, 2]))
    np.testing.assert_allclose(found, -np.log([0.5, 0.8]), rtol=1e-6)


@pytest.mark.parametrize("chunk", [1, 6, 9, 1000])
def test_chunks_give_the_loss_and_gradients_of_the_whole(chunk):
    """6 and 9 do not divide the 7 time steps: padding must not count."""
    hidden, kernel, bias, targets, weights = setting()

    def whole(hidden, kernel, bias):
        return jnp.sum(weights * cross_entropy(hidden @ kernel + bias[None, None], targets))

    def chunked(hidden, kernel, bias):
        return chunked_cross_entropy(hidden, kernel, bias, targets, weights, chunk=chunk)

    expected = jax.value_and_grad(whole, (0, 1, 2))(hidden, kernel, bias)
    found = jax.jit(jax.value_and_grad(chunked, (0, 1, 2)))(hidden, kernel, bias)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_memory_holds_a_chunk_of_logits_only():
    hidden, kernel, bias, targets, weights = setting(batch=8, length=64, width=8, vocab=4096)

    def peak(chunk):
        loss = lambda h, k: chunked_cross_entropy(  # noqa: E731
            h, k, bias, targets, weights, chunk=chunk
        )
        compiled = jax.jit(jax.grad(loss, (0, 1))).lower(hidden, kernel).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    whole_logits = 8 * 64 * 4096 * 4
    assert peak(512) >= whole_logits
    assert peak(32) < whole_logits / 4
