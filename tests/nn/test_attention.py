"""Attention with explicit masks."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.nn.attention import attend, causal_mask
from jaxgraph.nn.attention_by_head import attend_by_head


def heads(seed, length=5):
    return jax.random.normal(jax.random.key(seed), (2, length, 3, 4))


def test_equals_jax_own_attention_under_a_causal_mask():
    q, k, v = heads(0), heads(1), heads(2)
    expected = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    np.testing.assert_allclose(attend(q, k, v, causal_mask(5)), expected, atol=1e-6)


def test_a_query_that_sees_nothing_gets_zeros_and_finite_gradients():
    q, k, v = heads(0), heads(1), heads(2)
    mask = causal_mask(5) & (jnp.arange(5) >= 2)[None, None, None]
    out = attend(q, k, v, mask)
    assert (out[:, :2] == 0).all() and np.abs(out[:, 2:]).min() > 0
    grads = jax.grad(lambda *x: attend(*x, mask).sum(), (0, 1, 2))(q, k, v)
    assert all(np.isfinite(g).all() for g in grads)
    np.testing.assert_allclose(out[:, 2], v[:, 2], atol=1e-6)


def test_dropout_keeps_the_mean_and_drops_the_share():
    q, k = heads(0, 64), heads(1, 64)
    mask = jnp.ones((1, 1, 64, 64), bool)
    ones = jnp.ones_like(q)
    found = attend(q, k, ones, mask, rate=0.25, dropout_key=jax.random.key(3))
    # Probabilities sum to 1 on average only: without dropout every entry would be exactly 1.
    assert np.std(found) > 0.05
    np.testing.assert_allclose(found.mean(), 1.0, atol=0.03)


def test_head_by_head_equals_jax_own_attention_with_its_gradients():
    q, k, v = heads(0, 4), heads(1, 6), heads(2, 6)
    mask = jnp.array([[1, 1, 0, 1, 1, 0], [0, 0, 1, 0, 1, 1]], bool)[:, None, None]

    def both(attend, mask):
        loss = lambda *x: (attend(*x, mask=mask) ** 2).sum()  # noqa: E731
        return attend(q, k, v, mask=mask), jax.grad(loss, (0, 1, 2))(q, k, v)

    for seen in (None, mask):
        found, wanted = both(attend_by_head, seen), both(jax.nn.dot_product_attention, seen)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, wanted)


def test_head_by_head_keeps_no_scores_for_the_gradient():
    long = 512
    shapes = [jax.ShapeDtypeStruct((2, long, 4, 4), jnp.float32)] * 3
    kept = jax.eval_shape(lambda *x: jax.vjp(attend_by_head, *x)[1], *shapes)
    assert max(leaf.size for leaf in jax.tree.leaves(kept)) < long * long


def test_head_by_head_gives_the_mean_where_nothing_is_seen():
    q, k, v = heads(0), heads(1), heads(2)
    out = attend_by_head(q, k, v, jnp.zeros((2, 1, 1, 5), bool))
    np.testing.assert_allclose(out, np.broadcast_to(v.mean(1, keepdims=True), v.shape), atol=1e-6)
