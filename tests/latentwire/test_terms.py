"""Losses that are no slices of the answers' logits, and the modules that wait for a config."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.latentwire.config import Gist, Losses
from jaxgraph.latentwire.heads import Coprocessor, DeepPrefix, GistHead, Refiner
from jaxgraph.latentwire.hearer import Before
from jaxgraph.latentwire.losses import state_distance
from jaxgraph.latentwire.objective import WireObjective
from jaxgraph.latentwire.terms import opening
from jaxgraph.lm.config import Sampling
from jaxgraph.lm.generate import generate
from tests.latentwire import models

PLAIN = Losses(autoscale=False, distil=0.0)


def value(losses, key, batch=None, plan=None, **modules):
    """One term of a step, of modules whose parameters are drawn."""
    plain = models.make_objective(losses)
    objective = WireObjective(replace(plain.modules, **modules), losses)
    args = params_of(objective.modules), {"one": models.frozen()}, batch or models.batch()
    run = jax.jit(lambda *args: objective(*args, plan or models.plan(), jax.random.key(3)))
    return float(run(*args)[1][f"one/{key}"])


def params_of(modules):
    z, key, found = jnp.zeros((1, models.SLOTS, models.WIDTH)), jax.random.key(0), {}
    each = {"refiner": modules.refiner} | {
        f"{part}_one": heads["one"]
        for part, heads in (("coprocessor", modules.coprocessors), ("gist", modules.gists))
        if heads
    }
    for part, module in each.items():
        if module is not None:
            found[part] = models.draw(jax.eval_shape(module.init, key, z)["params"])
    return models.params() | found


@pytest.fixture(scope="module")
def read():
    """What the model makes of answers behind their texts: read, and told vector by vector."""
    hearer, frozen = models.make_objective().modules.hearers["one"], models.frozen()
    own = models.batch()["one"]

    @jax.jit
    def both(own):
        texts, answers = (own["text"], own["text_mask"]), (own["answer"], own["answer_mask"])
        told = Before(hearer.embed(frozen, texts[0]), texts[1])
        return (
            hearer.answer_pass(frozen, told, *answers, (0, 1)),
            hearer.text_pass(frozen, *texts, *answers, (0, 1)),
            hearer.text_pass(frozen, *texts, *answers, (0, 1), later=True),
        )

    return both(own), np.asarray(own["answer_mask"])


def test_states_of_one_who_reads_are_a_readers(read):
    (told, text, later), real = read
    assert np.allclose(state_distance(told.states, text.states)[real], 0, atol=1e-9)
    assert np.allclose(text.logits, later.logits, atol=1e-5)
    # In front of token t + 1 is behind token t.
    seen = real[:, 1:] & real[:, :-1]
    assert np.allclose(later.states[:, :, :-1][:, seen], text.states[:, :, 1:][:, seen], atol=1e-5)
    assert np.abs(later.states - text.states).max() > 0.1


def test_the_state_term_is_a_mean_over_steps_of_means_over_rows():
    losses = replace(PLAIN, states=1.0, state_layers=(0, 1))
    batch, modules = models.batch(), models.make_objective().modules
    params, frozen, own = models.params(), models.frozen(), batch["one"]
    real = np.asarray(own["answer_mask"])

    @jax.jit
    def states(batch):
        z = modules.encode(params, batch).of("one")
        before = modules.hear(params, frozen, "one", z)
        args = own["answer"], own["answer_mask"], (0, 1)
        reads = own["text"], own["text_mask"]
        hearer = modules.hearers["one"]
        student = hearer.answer_pass(frozen, before, *args).states
        teachers = [hearer.text_pass(frozen, *reads, *args, later=x).states for x in (False, True)]
        return student, *teachers

    student, aligned, behind = map(np.asarray, states(batch))
    for teacher, counted, alignment in (
        (aligned, real, "aligned"), (behind, np.ones_like(real), "compat"),
    ):  # fmt: skip
        apart = np.square(student - teacher).mean(-1).sum(0)
        steps = [apart[counted[:, t], t].mean() for t in range(3)]
        found = value(replace(losses, state_alignment=alignment), "state", batch)
        assert found == pytest.approx(np.mean(steps), rel=1e-5)
    assert value(losses, "state", plan=models.plan(is_text=1.0)) == 0


def test_alignment_with_the_answer_slot_by_slot():
    batch, modules, frozen = models.batch(), models.make_objective().modules, models.frozen()
    own = batch["one"]
    z = modules.encode(models.params(), batch).of("one")
    slots = np.asarray(modules.prompt(models.params(), frozen, "one", z)[0])
    goal = np.asarray(modules.hearers["one"].embed(frozen, own["answer"]))[:, : models.SLOTS]
    real = np.asarray(own["answer_mask"])[:, : models.SLOTS]
    mse = np.square(slots - goal)[real].mean()
    sizes = np.linalg.norm(slots, axis=-1) * np.linalg.norm(goal, axis=-1)
    cosine = (1 - (slots * goal).sum(-1) / sizes)[real].mean()
    for metric, expected in (("mse", mse), ("cosine", cosine), ("both", mse + cosine)):
        losses = replace(PLAIN, answer_align=0.5, answer_align_metric=metric)
        found = value(losses, "latent_prefix_align", batch)
        assert found == pytest.approx(0.5 * expected, rel=1e-5)


def test_openings_of_texts_padded_on_the_left():
    ids, mask = jnp.asarray([[0, 0, 5, 6, 7], [1, 2, 3, 4, 5]]), np.ones((2, 5), bool)
    mask[0, :2] = False
    found, real = opening(ids, jnp.asarray(mask), 4)
    assert found[0, :3].tolist() == [5, 6, 7] and real[0].tolist() == [True, True, True, False]
    assert found[1].tolist() == [1, 2, 3, 4] and real[1].all()


def test_the_gist_is_guessed_from_the_wire():
    head, frozen = GistHead(models.WIDTH, 12, 9, 8, 1), models.frozen()
    losses = replace(PLAIN, gist=Gist(1.0, tokens=9, layers=1, hidden=8, dropped=0.0))
    batch, modules = models.batch(), replace(models.make_objective().modules, gists={"one": head})
    batch["mask"] = batch["mask"].at[3].set(0)
    params, own = params_of(modules), jax.tree.map(lambda x: x[:3], batch["one"])
    guess = np.asarray(
        head.apply({"params": params["gist_one"]}, modules.encode(params, batch).of("one"))
    )
    errors = []
    for row, (ids, mask) in enumerate(zip(own["text"], own["text_mask"], strict=True)):
        words = np.asarray(frozen.lm["embedding"])[np.asarray(ids)[np.asarray(mask)]]
        errors.extend(np.square(guess[row, : len(words)] - words).mean(-1))
    found = value(losses, "gist", batch, gists={"one": head})
    assert found == pytest.approx(np.mean(errors), rel=1e-5)
    half = replace(losses, gist=replace(losses.gist, dropped=0.5))
    assert value(half, "gist", batch, gists={"one": head}) != pytest.approx(found, rel=1e-5)
    objective = WireObjective(modules, losses)

    def loss(params):
        args = {"one": frozen}, batch, models.plan(), jax.random.key(0)
        return objective(params, *args)[1]["one/gist"]

    grads = jax.jit(jax.grad(loss))(params)
    for part in ("encoder", "gist_one"):
        norms = [float(jnp.abs(g).max()) for g in jax.tree.leaves(grads[part])]
        assert np.isfinite(norms).all() and np.mean(np.asarray(norms) > 0) > 0.8
    assert not any(np.any(g) for g in jax.tree.leaves(grads["adapter_one"]))


def test_slots_that_are_not_heard_say_nothing():
    """Neither through the refiner nor through a coprocessor nor by the prompt's strength."""
    modules = replace(
        models.make_objective().modules, refiner=Refiner(models.WIDTH, 1, 2),
        coprocessors={"one": Coprocessor(2, 8, (1,), 6)},
    )  # fmt: skip
    params, frozen, rng = params_of(modules), models.frozen(), np.random.default_rng(0)
    z = jnp.asarray(rng.normal(size=(2, models.SLOTS, models.WIDTH)), jnp.float32)
    other = z.at[:, 1:].set(jnp.asarray(3 * rng.normal(size=z[:, 1:].shape), jnp.float32))
    hear = jax.jit(
        lambda z, count: modules.hear(params, frozen, "one", z, count), static_argnums=1
    )
    for ours, theirs in zip(*(jax.tree.leaves(hear(x, 1)) for x in (z, other)), strict=True):
        assert np.allclose(ours, theirs, atol=1e-6)
    whole, changed = hear(z, None), hear(other, None)
    assert not np.allclose(whole.vectors[:, 0], changed.vectors[:, 0], atol=1e-3)
    assert not np.allclose(whole.past.keys, changed.past.keys, atol=1e-3)
    assert whole.vectors.shape[1] == models.SLOTS + 2 and whole.past.length == 2
    one = hear(z, 1)
    assert one.vectors.shape[1] == 1 + 2 and one.past.length == 2


def test_a_deep_prefix_and_a_coprocessor_stand_one_behind_the_other():
    prefix = DeepPrefix(12, models.SLOTS, 1, 1, 6)
    modules = replace(
        models.make_objective().modules, prefixes={"one": prefix},
        coprocessors={"one": Coprocessor(2, 8, (1,), 6)},
    )  # fmt: skip
    shapes = jax.eval_shape(prefix.init, jax.random.key(0), jnp.zeros((1, models.SLOTS, 12)))
    params = params_of(modules) | {"deep_prefix_one": models.draw(shapes["params"])}
    z = modules.encode(params, models.batch()).of("one")
    both = modules.hear(params, models.frozen(), "one", z).past
    deep, own = (
        replace(modules, **{other: {}}).hear(params, models.frozen(), "one", z).past
        for other in ("coprocessors", "prefixes")
    )
    assert np.array_equal(both.keys[:, :, :, : models.SLOTS], deep.keys)
    assert np.array_equal(both.values[:, :, :, models.SLOTS :], own.values)


def test_behind_a_coprocessor_decoding_agrees_with_a_whole_pass():
    modules = replace(
        models.make_objective().modules, coprocessors={"one": Coprocessor(2, 8, (1,), 6)}
    )
    params, frozen = params_of(modules), models.frozen()
    z = modules.encode(params, models.batch()).of("one")
    hearer, real = modules.hearers["one"], jnp.ones((4, 4), bool)
    for fed in (True, False):
        before = replace(modules, soft_prompt=fed).hear(params, frozen, "one", z)
        assert before.vectors.shape[1] == 2 + fed * models.SLOTS
        said = generate(
            models.LLAMA, frozen.lm, before.vectors, before.mask, sampling=Sampling(4),
            past=before.past,
        ).tokens  # fmt: skip
        logits = jax.jit(hearer.answer_logits)(frozen, before, said, real)
        assert np.array_equal(logits.argmax(-1), said)
        alone = jax.jit(hearer.answer_logits)(frozen, before.replace(past=None), said, real)
        assert np.abs(logits - alone).max() > 1e-3
