"""One bank of experts, however it is run; dropout; the cache of the decoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.moe.experts import init_bank, make_block, run_bank
from jaxgraph.moe.generate import generate, sample
from jaxgraph.nn.attention import causal_mask
from tests.moe import models


def bank(**options):
    config = models.small_config(**options)
    block = make_block(config)
    params = init_bank(jax.random.key(0), block, 3, config.width)
    x = jax.random.normal(jax.random.key(1), (2, 5, config.width))
    return block, params, x


def run(block, params, x, **options):
    base = dict(train=False, dropout_key=None, loop="map")
    return jax.jit(lambda p, x: run_bank(block, p, x, causal_mask(5), **(base | options))[0])(
        params, x
    )


def test_side_by_side_and_one_by_one_give_what_each_block_gives():
    block, params, x = bank()
    slow = jnp.stack([
        block.apply({"params": jax.tree.map(lambda p, e=e: p[e], params)}, x, causal_mask(5),
                    train=False)[0]
        for e in range(3)
    ])
    np.testing.assert_allclose(run(block, params, x, loop="map"), slow, atol=2e-6)
    np.testing.assert_allclose(run(block, params, x, loop="vmap"), slow, atol=2e-6)


def test_a_level_of_zero_gives_zeros_and_others_the_full_output():
    block, params, x = bank()
    found = run(block, params, x, levels=jnp.array([0.0, 0.01, 1.0]))
    assert (found[0] == 0).all()
    np.testing.assert_allclose(found[1:], run(block, params, x)[1:], atol=1e-6)


@pytest.mark.parametrize("loop", ["map", "vmap"])
def test_dropout_differs_between_experts_and_follows_its_key(loop):
    block, params, x = bank(dropout=0.5)
    same = jax.tree.map(lambda p: jnp.broadcast_to(p[:1], p.shape), params)
    drop = lambda seed: run(  # noqa: E731
        block, same, x, train=True, dropout_key=jax.random.key(seed), loop=loop
    )
    first = drop(0)
    assert np.abs(first[0] - first[1]).max() > 1e-2
    np.testing.assert_array_equal(first, drop(0))
    assert np.abs(first - drop(1)).max() > 1e-2


def test_initial_values_are_those_of_the_specification():
    config = models.small_config(width=64, num_heads=4)
    params = init_bank(jax.random.key(0), make_block(config), 3, 64)
    qkv = np.asarray(params["attention"]["qkv"]["kernel"])
    bound = np.sqrt(6 / (64 + 3 * 64))
    assert np.abs(qkv).max() <= bound
    np.testing.assert_allclose(qkv.std(), bound / np.sqrt(3), rtol=0.02)
    np.testing.assert_allclose(np.std(params["up"]["kernel"]), 0.02, rtol=0.02)
    assert (params["up"]["bias"] == 0).all() and (params["norm1"]["scale"] == 1).all()
    assert np.abs(params["up"]["kernel"][0] - params["up"]["kernel"][1]).max() > 0.01


def greedy_by_full_forwards(model, params, ghosts, ids, count):
    """Recomputes everything for each token."""
    for _ in range(count):
        # Padding to one length compiles once; what follows the last token cannot matter.
        padded = jnp.pad(ids, ((0, 0), (0, 16 - ids.shape[1])))
        scores = models.logits(model, params, padded, ghosts)[:, ids.shape[1] - 1]
        ids = jnp.concatenate([ids, jnp.argmax(scores, -1)[:, None].astype(ids.dtype)], 1)
    return ids[:, -count:]


@pytest.mark.parametrize(
    "name",
    ["gnn", "ghost awake", "hgnn original", "routed", "routed by token, ghosts awake",
     "top-2 grouped"],
)
def test_decoding_with_the_cache_equals_full_forwards(name):
    model, params, ghosts = models.make(name)
    prompt = models.tokens(batch=2, length=5)
    expected = greedy_by_full_forwards(model, params, ghosts, prompt, 11)
    found = generate(
        model, params, ghosts, prompt, jnp.asarray(5), jax.random.key(0),
        new_tokens=11, temperature=0.0, top_k=0,
    )
    np.testing.assert_array_equal(found, expected)


def test_one_token_can_be_asked_for():
    model, params, _ = models.make("gnn")
    found = generate(
        model, params, None, models.tokens(length=5), jnp.asarray(5), jax.random.key(0),
        new_tokens=1, temperature=1.0, top_k=0,
    )
    assert found.shape == (2, 1)


def draw(model, params, prompt):
    """Six tokens behind the first four of a prompt; tests share its program."""
    return generate(
        model, params, None, prompt, jnp.asarray(4), jax.random.key(2),
        new_tokens=6, temperature=1.0, top_k=5,
    )


def test_rubbish_behind_the_prompt_does_not_matter():
    model, params, _ = models.make("gnn")
    prompt = models.tokens(batch=1, length=8)
    found = draw(model, params, prompt)
    np.testing.assert_array_equal(found, draw(model, params, prompt.at[:, 4:].set(0)))


def test_each_token_is_drawn_with_noise_of_its_own():
    model, params, _ = models.make("gnn")
    flat = params | {"head": jax.tree.map(jnp.zeros_like, params["head"])}
    found = draw(model, flat, models.tokens(batch=1, length=8))
    # Each of 61 words is as likely as any other.
    assert len(set(found[0].tolist())) > 3


def test_temperature_sharpens_the_draw():
    logits = jnp.log(jnp.array([[0.4, 0.3, 0.2, 0.1]]))
    keys = jax.random.split(jax.random.key(0), 300)
    drawn = jax.vmap(lambda k: sample(logits, k, 0.25, 0)[0])(keys)
    # 0.4⁴ / (0.4⁴ + 0.3⁴ + 0.2⁴ + 0.1⁴) = 0.72
    assert 0.62 < float((drawn == 0).mean()) < 0.82


def test_top_k_draws_only_from_the_likeliest():
    logits = jnp.log(jnp.array([[0.4, 0.3, 0.2, 0.1]]))
    keys = jax.random.split(jax.random.key(0), 300)
    drawn = jax.vmap(lambda k: sample(logits, k, 1.0, 2)[0])(keys)
    assert set(drawn.tolist()) == {0, 1}
    assert 0.45 < float((drawn == 0).mean()) < 0.7  # 4/7
