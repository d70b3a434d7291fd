"""One pass for all losses, rows that do not notice one another, frozen weights that stay."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.latentwire.config import Losses
from jaxgraph.latentwire.heads import DeepPrefix, LatentAdapter
from jaxgraph.latentwire.hearer import drop_slots
from jaxgraph.latentwire.losses import over_steps
from jaxgraph.latentwire.objective import WireObjective
from jaxgraph.latentwire.teacher import taught
from jaxgraph.lm.config import Sampling
from jaxgraph.lm.generate import generate
from jaxgraph.lm.llama import Llama
from jaxgraph.lm.score import candidate_nll
from jaxgraph.nn.losses import cross_entropy
from tests.latentwire import models

FULL = Losses(autoscale=False, manifold=0.1, entropy=0.1)


@pytest.fixture(scope="module")
def run():
    """The objective, compiled once for all batches of one shape."""
    objective = models.make_objective(FULL)
    return jax.jit(lambda p, f, b, plan: objective(p, f, b, plan, jax.random.key(0)))


def of(run, batch, plan=None):
    loss, metrics = run(models.params(), {"one": models.frozen()}, batch, plan or models.plan())
    return float(loss), {key: float(value) for key, value in metrics.items()}


def test_slices_of_one_pass_are_the_passes_that_the_original_makes(run):
    """Each step's logits come from a pass of its own, over what precedes the token."""
    batch, frozen = models.batch(), models.frozen()
    objective, own = models.make_objective(FULL), batch["one"]
    wire = objective.modules.encode(models.params(), batch)
    prompt, _ = objective.modules.prompt(models.params(), frozen, "one", wire.of("one"))
    heard = objective.modules.before(models.params(), frozen, "one", wire.of("one"), prompt)
    before, seen = heard.vectors, heard.mask
    apply = partial(models.LLAMA.apply, {"params": frozen.lm})
    at, mask = seen.shape[1], jnp.concatenate([seen, own["answer_mask"]], axis=1)

    @jax.jit
    def behind(t):
        """Whatever stands behind the first t tokens is neither seen nor what it is."""
        fed = jnp.where(jnp.arange(5)[None] < t, own["answer"], 0)
        vectors = jnp.concatenate([before, apply(fed, method="embed")], axis=1)
        hidden = apply(vectors, mask & (jnp.arange(at + 5)[None] < at + t)).hidden
        return jax.nn.log_softmax(apply(hidden[:, at - 1 + t], method="logits"))

    steps = []
    for t in range(3):
        logs = behind(t)
        active = np.asarray(own["answer_mask"][:, t])
        nll = -np.asarray(logs)[np.arange(4), np.asarray(own["answer"][:, t])]
        steps.append(nll[active].mean())
    _, found = of(run, batch)
    assert found["one/first"] == pytest.approx(steps[0], rel=1e-5)
    assert found["one/kce"] == pytest.approx(np.mean(steps), rel=1e-5)


def test_a_step_calls_each_model_once_and_its_teacher_once(monkeypatch):
    calls = []
    inner = Llama.__call__

    def counted(self, *args, **kwargs):
        calls.append(1)
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(Llama, "__call__", counted)
    for losses, count in ((FULL, 2), (replace(FULL, distil=0.0), 1)):
        calls.clear()
        objective = models.make_objective(losses)
        args = models.params(), {"one": models.frozen()}, models.batch(), models.plan()
        jax.eval_shape(lambda *a: objective(*a, jax.random.key(0)), *args)  # noqa: B023
        assert len(calls) == count


def test_rows_do_not_notice_one_another_nor_their_padding(run):
    batch = models.batch()
    alone = jax.tree.map(lambda x: jnp.broadcast_to(x[1:2], x.shape), batch)
    wide = jax.tree.map(lambda x: x, batch)
    wide["bytes"] = jnp.where(batch["bytes_mask"], batch["bytes"], 77)
    wide["one"]["answer"] = jnp.where(batch["one"]["answer_mask"], batch["one"]["answer"], 5)
    wide["one"]["text"] = jnp.where(batch["one"]["text_mask"], batch["one"]["text"], 5)
    assert of(run, wide)[0] == pytest.approx(of(run, batch)[0], abs=1e-6)
    only = dict(batch, mask=jnp.asarray([0.0, 1.0, 0.0, 0.0]))
    ours, theirs = of(run, only)[1], of(run, alone)[1]
    for key in ("one/tf", "one/first", "one/kce", "one/kd", "one/rms_raw"):
        assert ours[key] == pytest.approx(theirs[key], abs=1e-5), key


def test_a_row_of_many_is_that_row_alone():
    objective, params, frozen = models.make_objective(), models.params(), models.frozen()

    @jax.jit
    def told(batch):
        wire = objective.modules.encode(params, batch).of("one")
        prompt, _ = objective.modules.prompt(params, frozen, "one", wire)
        before, own = objective.modules.before(params, frozen, "one", wire, prompt), batch["one"]
        return objective.modules.hearers["one"].answer_logits(
            frozen, before, own["answer"], own["answer_mask"]
        )

    many = models.batch(rows=64)
    alone = jax.tree.map(lambda x: x[33:34], many)
    ours, theirs = told(alone)[0], told(many)[33]
    real = np.asarray(alone["one"]["answer_mask"][0])
    assert real.sum() == 4 and np.allclose(ours[real], theirs[real], atol=1e-5)


def test_short_answers_give_no_nan(run):
    batch = models.batch()
    batch["one"]["answer_mask"] = batch["one"]["answer_mask"].at[:, 1:].set(False)
    loss, found = of(run, batch, models.plan(k=4))
    assert np.isfinite(loss) and found["one/kce"] == pytest.approx(found["one/first"], rel=1e-6)
    nothing = over_steps(jnp.ones((2, 3)), jnp.zeros((2, 3), bool), jnp.float32(2))
    assert float(nothing) == 0


def test_private_slots_reach_their_model_alone():
    names = ("one", "two")
    objective, params = models.make_objective(names=names, private=2), models.params(names, 2)
    batch = models.batch(names)

    def heard(params):
        wire = objective.modules.encode(params, batch)
        return wire.of("one"), wire.of("two")

    before = heard(params)
    changed = jax.tree.map(lambda x: x, params)
    pooler = changed["encoder"]["private_one"]
    changed["encoder"]["private_one"] = jax.tree.map(lambda x: x + 0.1, pooler)
    after = heard(changed)
    assert before[0].shape == (4, models.SLOTS + 2, models.WIDTH)
    assert not np.allclose(before[0], after[0]) and np.array_equal(before[1], after[1])


def test_a_teacher_asked_once_teaches_as_one_asked_in_the_step(run):
    batch, every = models.batch(), models.VOCAB
    own = {name: np.asarray(x) for name, x in batch["one"].items()}
    losses = replace(FULL, distil_cache=every)
    hearer = models.make_objective().modules.hearers["one"]
    known = taught(hearer, models.frozen(), losses, own)
    batch["one"] = {k: x for k, x in batch["one"].items() if not k.startswith("text")} | known
    objective = models.make_objective(losses)
    args = models.params(), {"one": models.frozen()}, batch, models.plan()
    _, found = jax.jit(lambda *a: objective(*a, jax.random.key(0)))(*args)
    assert float(found["one/kd"]) == pytest.approx(of(run, models.batch())[1]["one/kd"], rel=1e-4)


def test_a_deep_prefix_is_heard_instead_of_the_soft_prompt():
    prefix = DeepPrefix(12, models.SLOTS, models.LLAMA.arch.layers, 1, 6)
    plain = models.make_objective(replace(FULL, distil=0.0))
    modules = replace(plain.modules, prefixes={"one": prefix})
    objective = WireObjective(modules, plain.losses)
    shapes = jax.eval_shape(prefix.init, jax.random.key(0), jnp.zeros((1, models.SLOTS, 12)))
    params = models.params() | {"deep_prefix_one": models.draw(shapes["params"])}
    prompt = jnp.asarray(np.random.default_rng(0).normal(size=(4, models.SLOTS, 12)), jnp.float32)
    z = jnp.zeros((4, models.SLOTS, models.WIDTH))
    whole = objective.modules.before(params, models.frozen(), "one", z, prompt)
    few = objective.modules.before(params, models.frozen(), "one", z, prompt[:, :1])
    assert whole.vectors.shape[1] == 2 and whole.past.length == models.SLOTS
    assert np.array_equal(few.past.keys, whole.past.keys[:, :, :, :1])

    def loss(params):
        args = {"one": models.frozen()}, models.batch(), models.plan(), jax.random.key(0)
        return objective(params, *args)[0]

    grads = jax.jit(jax.grad(loss))(params)
    for part in ("encoder", "adapter_one", "deep_prefix_one"):
        # Only the adapter's scale has no gradient, nor lengths that nobody tells.
        norms = [float(jnp.linalg.norm(g)) for g in jax.tree.leaves(grads[part])]
        assert np.isfinite(norms).all() and np.mean(np.asarray(norms) > 0) > 0.8


@pytest.fixture(scope="module")
def reading():
    """An objective whose model reads the wire behind its layer, and parameters for it."""
    plain = models.make_objective(replace(FULL, distil=0.0))
    block = LatentAdapter(12, models.WIDTH, 2)
    args = jnp.zeros((1, 1, 12)), jnp.zeros((1, 1, models.WIDTH))
    shapes = {"0": jax.eval_shape(block.init, jax.random.key(0), *args)["params"]}
    objective = WireObjective(replace(plain.modules, blocks={"one": {0: block}}), plain.losses)
    return objective, models.params() | {"latent_adapters_one": models.draw(shapes)}


def test_what_layers_read_is_read_at_every_token(reading):
    """Decoding token by token, and scoring behind one prefill, agree with whole passes (D10)."""
    objective, params = reading
    frozen, rng = models.frozen(), np.random.default_rng(0)
    z = jnp.asarray(rng.normal(size=(2, models.SLOTS, models.WIDTH)), jnp.float32)
    prompt = jnp.asarray(rng.normal(size=(2, models.SLOTS, 12)), jnp.float32)
    before = objective.modules.before(params, frozen, "one", z, prompt)
    said = generate(
        models.LLAMA, frozen.lm, before.vectors, before.mask, sampling=Sampling(4),
        reading=before.reading,
    ).tokens  # fmt: skip
    hearer, real = objective.modules.hearers["one"], jnp.ones((2, 4), bool)
    logits = jax.jit(hearer.answer_logits)(frozen, before, said, real)
    assert np.array_equal(logits.argmax(-1), said)
    mute = jax.jit(hearer.answer_logits)(frozen, before.replace(reading=None), said, real)
    assert np.abs(logits - mute).max() > 1e-3
    two = jnp.stack([said, (said + 1) % models.VOCAB], axis=1)
    nll = candidate_nll(
        models.LLAMA, frozen.lm, before.vectors, before.mask, two, jnp.ones((2, 2, 4), bool),
        reading=before.reading,
    )  # fmt: skip
    assert np.allclose(nll[:, 0], cross_entropy(logits, said).sum(1), atol=1e-4)


def test_a_past_is_what_was_run_before():
    hearer, frozen = models.make_objective().modules.hearers["one"], models.frozen()
    own = models.batch()["one"]
    prompt = jnp.asarray(np.random.default_rng(0).normal(size=(4, models.SLOTS, 12)), jnp.float32)

    @jax.jit
    def both(prompt):
        ran = models.LLAMA.apply({"params": frozen.lm}, prompt, keep_key_values=True)
        behind = hearer.nothing(frozen, 4, ran.key_values)
        answers = own["answer"], own["answer_mask"]
        return [
            hearer.answer_logits(frozen, before, *answers)
            for before in (hearer.compose(frozen, prompt), behind)
        ]

    whole, behind = (np.asarray(x)[np.asarray(own["answer_mask"])] for x in both(prompt))
    assert np.allclose(whole, behind, atol=1e-4)


def test_dropped_slots():
    shared = jnp.ones((64, 3, 2))
    found = drop_slots(shared, jnp.float32(0.25), jax.random.key(0))
    assert set(np.unique(found)) == {0.0, 4.0}
    assert (found.sum((1, 2)) > 0).all() and np.array_equal(found[..., 0], found[..., 1])
    none = drop_slots(shared, jnp.float32(1e-9), jax.random.key(0))
    assert (none[:, 0] > 0).all() and not none[:, 1:].any()
