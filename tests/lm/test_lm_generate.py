"""Generation: equal to recomputing everything, stopping, sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.lm.cache import past_of
from jaxgraph.lm.config import Sampling
from jaxgraph.lm.generate import generate
from jaxgraph.lm.sampling import nucleus, sample
from tests.lm.models import random_model

PROMPTS = [[5, 2, 30, 11, 8], [17, 4, 4], [9]]
STEPS = 6


@pytest.fixture(scope="module")
def lm():
    return random_model()


def padded(left):
    ids, mask = np.full((3, 5), 1, np.int32), np.zeros((3, 5), bool)
    for row, prompt in enumerate(PROMPTS):
        start = 5 - len(prompt) if left else 0
        ids[row, start : start + len(prompt)], mask[row, start : start + len(prompt)] = prompt, True
    return jnp.asarray(ids), jnp.asarray(mask)


@pytest.fixture(scope="module")
def recomputed(lm):
    """Greedy tokens of each prompt alone, every one from a pass over all before it."""
    model, params = lm
    run = jax.jit(lambda ids, mask: model.apply(
        {"params": params}, model.apply({"params": params}, ids, mask).hidden, method="logits"
    ))  # fmt: skip
    rows = []
    for prompt in PROMPTS:
        ids = list(prompt)
        for _ in range(STEPS):
            fed = np.array([ids + [0] * (11 - len(ids))], np.int32)
            logits = run(fed, np.arange(11)[None] < len(ids))
            ids.append(int(logits[0, len(ids) - 1].argmax()))
        rows.append(ids[len(prompt) :])
    assert len({tuple(row) for row in rows}) == 3
    return rows


def greedy(lm, ids, mask=None, stop_ids=(), **options):
    return generate(*lm, ids, mask, sampling=Sampling(STEPS, **options), stop_ids=stop_ids)


@pytest.mark.parametrize("left", [True, False])
def test_cached_tokens_are_the_recomputed_ones(lm, recomputed, left):
    out = greedy(lm, *padded(left))
    assert out.tokens.tolist() == recomputed and out.lengths.tolist() == [STEPS] * 3


def test_rows_stop_one_by_one(lm, recomputed):
    stop = recomputed[0][2]
    expected = [row[: row.index(stop)] if stop in row else row for row in recomputed]
    out = greedy(lm, *padded(True), stop_ids=(stop,))
    assert out.lengths.tolist() == [len(row) for row in expected]
    assert out.tokens.tolist() == [row + [0] * (STEPS - len(row)) for row in expected]
    assert out.lengths[0] == recomputed[0].index(stop) < STEPS


@pytest.mark.parametrize("options", [{"min_new_tokens": 4}, {"ban_stop_steps": 4}])
def test_stop_ids_are_banned_at_first(lm, recomputed, options):
    stop = recomputed[0][0]
    out = greedy(lm, *padded(True), stop_ids=(stop,), **options)
    assert stop not in np.asarray(out.tokens)[:, :4] and (out.lengths >= 4).all()


def test_a_past_goes_in_front(lm, recomputed):
    model, params = lm
    ids = jnp.asarray([PROMPTS[0]])
    past = model.apply({"params": params}, ids[:, :3], keep_key_values=True).key_values
    out = generate(*lm, ids[:, 3:], sampling=Sampling(STEPS), past=past)
    assert out.tokens.tolist() == recomputed[:1]
    other = generate(*lm, ids[:, 3:], sampling=Sampling(STEPS),
                     past=past_of(past.keys, -past.values, past.mask))  # fmt: skip
    assert other.tokens.tolist() != recomputed[:1]


def test_drawn_rows_do_not_depend_on_the_batch(lm):
    ids, mask = padded(True)
    options = {"temperature": 1.5, "top_p": 0.95}
    draw = lambda rows, seed: generate(  # noqa: E731
        *lm, ids[:rows], mask[:rows], sampling=Sampling(STEPS, **options), key=jax.random.key(seed)
    ).tokens.tolist()
    assert draw(3, 0)[:1] == draw(1, 0) != draw(1, 1)


def test_the_first_token_may_be_drawn_otherwise(lm, recomputed):
    options = {"temperature": 50.0, "first_temperature": 0.0}
    out = greedy(lm, *padded(True), **options)
    assert out.tokens[:, 0].tolist() == [row[0] for row in recomputed]
    assert out.tokens.tolist() != recomputed


def test_nucleus_keeps_whole_probabilities_up_to_its_size():
    probs = jnp.asarray([[0.1, 0.5, 0.15, 0.25], [0.7, 0.1, 0.1, 0.1]])
    kept = np.isfinite(nucleus(jnp.log(probs), 0.8))
    assert kept.tolist() == [[False, True, False, True], [True, False, False, False]]
    assert np.isfinite(nucleus(jnp.log(probs), 0.0)).sum(1).tolist() == [1, 1]


def test_draws_follow_the_probabilities():
    probs = np.array([0.6, 0.3, 0.1])
    keys = jax.random.split(jax.random.key(0), 4000)
    logits = jnp.broadcast_to(jnp.log(probs) * 0.5, (4000, 3))
    drawn = np.bincount(sample(logits, keys, 0.5, 1.0), minlength=3) / 4000
    np.testing.assert_allclose(drawn, probs, atol=0.03)
