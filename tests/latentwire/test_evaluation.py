"""Ways to tell a text, several models' answers, teachers asked once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.latentwire.conditions import Told, first_tokens, tell_all
from jaxgraph.latentwire.config import Losses
from jaxgraph.latentwire.hearer import Before
from jaxgraph.latentwire.joint import agreement, joint_table
from jaxgraph.latentwire.losses import divergence, kept, kept_divergence
from jaxgraph.latentwire.teacher import taught
from jaxgraph.lm.score import candidate_nll
from jaxgraph.nn.losses import cross_entropy
from tests.latentwire import models


@pytest.fixture(scope="module")
def told():
    """What a model is told of a batch, by the way it is told."""
    batch = models.batch()
    short = np.asarray([[1, 2, 3, 4, 7], [0, 5, 6, 4, 7], [0, 0, 8, 4, 7], [9, 8, 7, 4, 7]])
    mask = np.asarray([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]) > 0
    batch["one"] |= {"short": jnp.asarray(short, jnp.int32), "short_mask": jnp.asarray(mask)}
    tell = jax.jit(partial(tell_all, models.make_objective().modules, "one", 8, (1, 3)))
    ways, spread = tell(models.params(), models.frozen(), batch)
    assert 0 < float(spread) < 2
    return batch, {one.way: one for one in ways}


def test_all_ways_stand_in_order(told):
    assert list(told[1]) == [
        "text", "wire", "wire at 8 bits", "another text's wire", "text cut to tokens: 3",
        "mean embeddings in slots: 3", "wire, first slots: 1", "text cut to tokens: 1",
        "mean embeddings in slots: 1", "nothing",
    ]  # fmt: skip


def test_what_is_told_is_what_its_name_says(told):
    batch, ways = told
    before = {way: np.asarray(one.before.vectors) for way, one in ways.items()}
    masks = {way: np.asarray(one.before.mask) for way, one in ways.items()}
    assert np.array_equal(masks["text"], batch["one"]["text_mask"])
    wire = before["wire"]
    assert wire.shape[1] == models.SLOTS + 2
    assert np.allclose(before["another text's wire"], np.roll(wire, 1, axis=0), atol=1e-6)
    one, first = before["wire, first slots: 1"], wire[:, [0, -2, -1]]
    assert np.array_equal(one[:, 1:], first[:, 1:])  # and a slot alone has a prompt's strength
    alone = first[:, 0] / np.sqrt(np.square(first[:, 0]).mean(-1, keepdims=True))
    assert np.allclose(one[:, 0], alone * models.frozen().rms, atol=1e-6)
    assert masks["text cut to tokens: 1"].sum(1).tolist() == [3, 3, 3, 3]
    assert before["nothing"].shape[1] == 2
    assert all((np.asarray(one.scores["tokens"]) == [1, 2, 3, 4]).all() for one in ways.values())


def test_first_tokens_and_what_is_no_text_stay():
    mask = jnp.asarray([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]) > 0
    found = first_tokens(mask, 2, 1)
    assert found.astype(int).tolist() == [[0, 1, 1, 0, 0, 1], [1, 1, 0, 0, 0, 1]]


def test_candidates_are_scored_as_if_each_stood_alone(told):
    batch, ways = told
    text, frozen = ways["text"].before, models.frozen()
    hearer, own = models.make_objective().modules.hearers["one"], batch["one"]
    other = jnp.roll(own["answer"], 1, axis=0), jnp.roll(own["answer_mask"], 1, axis=0)
    both = (own["answer"], own["answer_mask"]), other
    ids, real = (jnp.stack(parts, axis=1) for parts in zip(*both, strict=True))
    found = candidate_nll(models.LLAMA, frozen.lm, text.vectors, text.mask, ids, real)
    for i, (answer, mask) in enumerate(both):
        logits = jax.jit(hearer.answer_logits)(frozen, text, answer, mask)
        alone = jnp.where(mask, cross_entropy(logits, answer), 0).sum(1)
        assert np.allclose(found[:, i], alone, atol=1e-4)


def test_the_joint_pick_is_what_all_find_likeliest():
    guesses = {"x": ["red", "blue", "p", "m"], "y": ["green", "blue", "q", "n"]}
    nll = np.asarray([[2.0, 1.0], [1.0, 1.0], [1.0, 3.0], [2.0, 1.0]])
    table = joint_table(guesses, nll, [("green",), ("blue",), ("p",), ("m",)], 20)
    scores = {row["answers of"]: row["EM"] for row in table}
    right = {"x": 3, "y": 2, "joint pick": 3, "best of them, if one knew": 4}
    assert scores == {name: pytest.approx(n / 4) for name, n in right.items()}
    assert agreement(guesses) == pytest.approx(1 / 4)
    assert agreement(guesses | {"z": ["green", "red", "q", "n"]}) == 0


def test_a_teacher_asked_once_says_what_it_says_in_the_step():
    own, frozen = models.batch()["one"], models.frozen()
    hearer = models.make_objective().modules.hearers["one"]
    names = ("text", "text_mask", "answer", "answer_mask")
    rows = {name: np.asarray(own[name]) for name in names}
    losses = Losses(distil_cache=models.VOCAB)
    known = taught(hearer, frozen, losses, rows)
    assert known["taught_ids"].shape == (4, 4, models.VOCAB)
    student = jnp.asarray(np.random.default_rng(3).normal(size=(4, 5, models.VOCAB)), jnp.float32)
    teacher = hearer.text_pass(frozen, *(own[name] for name in names)).logits
    live = divergence(student, teacher, 2.0)[:, :4]
    arrays = (jnp.asarray(known[key]) for key in ("taught_ids", "taught_logs"))
    cached = kept_divergence(student[:, :4], *arrays, 2.0)
    real = rows["answer_mask"][:, :4]
    assert np.allclose(live[real], cached[real], atol=1e-4)
    ids, logs = kept(teacher[:, :4], 5, 2.0)
    few = np.asarray(kept_divergence(student[:, :4], ids, logs, 2.0))
    for b, t in zip(*np.nonzero(real), strict=True):
        shares = [np.asarray(jax.nn.softmax(x[b, t] / 2.0)) for x in (teacher, student)]
        p, q = ([*share[ids[b, t]], 1 - share[ids[b, t]].sum()] for share in shares)
        expected = 4 * sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))
        assert few[b, t] == pytest.approx(expected, rel=1e-3) and few[b, t] < live[b, t] + 1e-5


def test_told_is_a_pytree_whose_way_is_fixed():
    one = Told("wire", Before(jnp.ones(2), jnp.ones(2)), {"nll": jnp.ones(2)})
    assert jax.tree.map(lambda x: 2 * x, one).way == "wire" and len(jax.tree.leaves(one)) == 3
