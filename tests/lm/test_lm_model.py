"""Properties of the decoder: what a row notices, what a past is, what options change."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.lm.attention import attend, attend_cached, cudnn_takes
from jaxgraph.lm.cache import join, past_of, positions_of
from jaxgraph.lm.config import Compute
from jaxgraph.lm.llama import Llama
from jaxgraph.lm.score import text_nll, token_nll
from tests.lm.models import QWEN, random_model

IDS = jnp.asarray(np.random.default_rng(1).integers(0, QWEN.vocab_size, (2, 7)), jnp.int32)
close = partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def lm():
    model, params = random_model()
    return model, {"params": params}


@pytest.fixture(scope="module")
def whole(lm):
    """The pass of both rows without padding."""
    model, variables = lm
    return jax.jit(partial(model.apply, keep_hidden=True, keep_key_values=True))(variables, IDS)


def test_vectors_of_ids_give_the_same(lm, whole):
    model, variables = lm
    vectors = model.apply(variables, IDS, method="embed")
    close(model.apply(variables, vectors).hidden, whole.hidden)


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("positions", [positions_of, lambda mask: None])
def test_a_row_notices_neither_padding_nor_its_neighbours(lm, whole, left, positions):
    model, variables = lm
    width = 11
    ids, mask = np.full((2, width), 3, np.int32), np.zeros((2, width), bool)
    for row, start in enumerate((4, 1) if left else (0, 0)):
        ids[row, start : start + 7], mask[row, start : start + 7] = IDS[row], True
    ids[1, ~mask[1]] = 9
    ids, mask = jnp.asarray(ids), jnp.asarray(mask)
    hidden = model.apply(variables, ids, mask, positions=positions(mask)).hidden
    close(hidden[np.asarray(mask)].reshape(whole.hidden.shape), whole.hidden)


def test_a_past_stands_for_the_tokens_in_front(lm, whole):
    model, variables = lm
    cut = 3
    first = model.apply(variables, IDS[:, :cut], keep_key_values=True).key_values
    second = model.apply(variables, IDS[:, cut:], past=first, keep_key_values=True)
    close(second.hidden, whole.hidden[:, cut:])
    close(second.key_values.keys, whole.key_values.keys)
    close(second.key_values.values, whole.key_values.values)
    assert second.key_values.mask.shape == (2, 7)
    # Hidden slots of a past are not there.
    junk = past_of(first.keys[:, :, :, :2] + 1, first.values[:, :, :, :2], jnp.zeros((2, 2), bool))
    hidden = model.apply(
        variables, IDS[:, cut:], past=join(junk, first), positions=cut + jnp.arange(4)[None]
    ).hidden
    close(hidden, whole.hidden[:, cut:])


def test_one_step_is_the_next_column(lm, whole):
    model, variables = lm
    cache = model.apply(variables, IDS[:, :6], keep_key_values=True).key_values.extended(2)
    step = jax.jit(partial(model.apply, method="step"))
    hidden, cache = step(variables, IDS[:, 6], cache, jnp.int32(6), jnp.full(2, 6))
    close(hidden, whole.hidden[:, 6])
    close(cache.keys[:, :, :, :7], whole.key_values.keys)
    assert cache.mask.tolist() == [[True] * 7 + [False]] * 2


def test_hooks_act_behind_their_layer(lm, whole):
    model, variables = lm
    out = model.apply(variables, IDS, after={0: lambda x: 2 * x}, keep_hidden=True)
    close(out.hidden_states[0], whole.hidden_states[0])
    close(out.hidden_states[1], 2 * whole.hidden_states[1])
    layers = jax.tree.map(lambda a: a[1:], variables["params"]["layers"])
    rest = Llama(QWEN.__class__(**vars(QWEN) | {"layers": 2}))
    tail = {"params": variables["params"] | {"layers": layers}}
    close(out.hidden, rest.apply(tail, 2 * whole.hidden_states[1]).hidden)


def loss(model, variables, vectors):
    return jnp.square(model.apply(variables, vectors).hidden).mean()


@pytest.mark.parametrize("remat", ["layers", "dots"])
def test_remat_keeps_gradients(lm, remat):
    model, variables = lm
    vectors = model.apply(variables, IDS, method="embed")
    gradient = jax.grad(loss, 2)(model, variables, vectors)
    other = Llama(QWEN, Compute(remat=remat))
    close(jax.grad(loss, 2)(other, variables, vectors), gradient)
    assert "remat" in str(jax.make_jaxpr(partial(loss, other))(variables, vectors))


def test_half_precision_computes_in_it_and_gives_float32_logits(lm, whole):
    _, variables = lm
    half = Llama(QWEN, Compute("bfloat16"))
    weights = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), variables)
    out = half.apply(weights, IDS)
    assert out.hidden.dtype == jnp.bfloat16
    assert half.apply(weights, out.hidden, method="logits").dtype == jnp.float32
    error = np.abs(out.hidden.astype(jnp.float32) - whole.hidden)
    assert 1e-4 < error.max() and error.mean() < 0.05


def test_an_id_outside_the_vocabulary_shows(lm):
    model, variables = lm
    assert np.isnan(model.apply(variables, IDS[:1, :1] + 10**6, method="embed")).all()


def test_scores_are_those_of_whole_logits(lm, whole):
    model, variables = lm
    logits = model.apply(variables, whole.hidden, method="logits")
    expected = -np.take_along_axis(jax.nn.log_softmax(logits), IDS[..., None], -1)[..., 0]
    score = partial(token_nll, model, variables["params"], targets=IDS)
    for chunk in (1, 5, 1000):
        close(score(whole.hidden, chunk=chunk), expected)
    gradient = jax.grad(lambda hidden: score(hidden, chunk=4).sum())(whole.hidden)
    direct = jax.grad(
        lambda h: -jnp.take_along_axis(
            jax.nn.log_softmax(model.apply(variables, h, method="logits")), IDS[..., None], -1
        ).sum()
    )(whole.hidden)
    close(gradient, direct)


def test_text_scores_skip_padding_and_first_tokens(lm, whole):
    model, variables = lm
    score = partial(text_nll, model, variables["params"])
    logits = model.apply(variables, whole.hidden[:, :-1], method="logits")
    expected = -np.take_along_axis(jax.nn.log_softmax(logits), IDS[:, 1:, None], -1)[..., 0]
    ids = np.pad(IDS, [(0, 0), (2, 1)])
    mask = np.pad(np.ones_like(IDS, bool), [(0, 0), (2, 1)])
    close(score(jnp.asarray(ids), jnp.asarray(mask)), np.pad(expected, [(0, 0), (3, 1)]))


def test_grouped_heads_are_repeated_heads():
    draws = np.random.default_rng(2)
    draw = lambda *shape: jnp.asarray(draws.normal(size=shape), jnp.float32)  # noqa: E731
    query, key, value = draw(2, 3, 6, 4), draw(2, 5, 3, 4), draw(2, 5, 3, 4)
    mask = jnp.asarray(np.tril(np.ones((1, 1, 3, 5), bool), 2).repeat(2, 0))
    expected = jax.nn.dot_product_attention(
        query, key.repeat(2, axis=2), value.repeat(2, axis=2), mask=mask
    )
    close(attend(query, key, value, mask), expected)
    cached = attend_cached(
        query[:, 2:], key.swapaxes(1, 2), value.swapaxes(1, 2), mask[:, 0, 2]
    )
    close(cached, expected[:, 2:])


def test_cudnn_gets_what_it_knows():
    one = lambda dtype, width: jnp.zeros((1, 1, 1, width), dtype)  # noqa: E731
    assert cudnn_takes(one(jnp.bfloat16, 64))
    assert not cudnn_takes(one(jnp.float32, 64))
    assert not cudnn_takes(one(jnp.bfloat16, 12)) and not cudnn_takes(one(jnp.bfloat16, 256))
