"""The MoE task on the sample text: steps, accumulation, losses, ghosts that wake."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.data.config import TextData
from jaxgraph.errors import UserError
from jaxgraph.moe.config import Ghosts, Hypergraph, Moe, Optim, Orthogonality, Sampling
from jaxgraph.moe.task import MoeTask
from jaxgraph.train.config import Group, Schedule, Train
from jaxgraph.train.loop import fit
from tests.moe import models
from tests.train import toy

DATA = TextData(seq_len=16, batch_size=8, max_passages=60, validation=0.1)
STEADY = Group(lr=3e-3, schedule=Schedule("constant"))
OPTIM = Optim(expert=STEADY, ghost=STEADY, shared=STEADY, loss_chunk=32)
EARLY = Ghosts(count=2, threshold=0.2, window=15, ramp_steps=4)


def make(model=None, data=DATA, optim=OPTIM, **options):
    model = model or models.small_config(mode="ghost", vocab_size=0, num_layers=1, ghosts=EARLY)
    return MoeTask(
        Moe(model, data, optim, Sampling(tokens=8)), total_steps=50, diagnostics_every=1000,
        seed=0, **options,
    )


def start(task):
    """A state before the first step, without `task.init`, which compiles for seconds."""
    shapes = jax.eval_shape(task.init, jax.random.key(0)).replace(key=None)
    state = jax.tree.map(lambda s: jnp.asarray(np.zeros(s.shape, s.dtype)), shapes)
    return state.replace(params=models.random_params(task.model), key=jax.random.key(0))


def one_step(task, batch, state=None):
    state = start(task) if state is None else state
    return jax.jit(task.train_step)(state, None, batch)


def test_the_loss_is_the_cross_entropy_of_real_targets():
    task = make(models.small_config(mode="gnn", vocab_size=0), replace(DATA, packing="rows"))
    batch = task.batches("train")[0]
    batch["mask"][:, 5:] = 0
    state = start(task)
    evaluate = jax.jit(task.eval_step)
    found = evaluate(state, None, batch)
    logits = models.logits(task.model, state.params, jnp.asarray(batch["inputs"]))
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    rows, columns = np.nonzero(batch["mask"])
    expected = -log_probs[rows, columns, batch["targets"][rows, columns]].mean()
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)
    assert found["weight"] == len(rows)
    changed = batch | {"targets": np.where(batch["mask"] > 0, batch["targets"], 3)}
    assert evaluate(state, None, changed)["loss"] == found["loss"]


def test_micro_batches_equal_one_big_batch_ghosts_and_ragged_rows_included():
    data = replace(DATA, packing="rows", seq_len=16)
    whole = make(data=data)
    batch = whole.batches("train")[0]
    batch["mask"] *= np.arange(16)[None] < np.array([16, 1, 7, 0, 12, 3, 0, 0])[:, None]
    expected, expected_metrics = one_step(whole, batch)
    found, metrics = one_step(make(data=data, optim=replace(OPTIM, accumulate=4)), batch)
    # First moments are a tenth of the gradient, and Adam's step hides nothing in them.
    a, b = (jax.tree.leaves(state.opt_state) for state in (found, expected))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)
    np.testing.assert_allclose(
        found.extra["ghosts"].window, expected.extra["ghosts"].window, atol=1e-6
    )
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-5, err_msg=name)


def test_experts_only_leaves_everything_else_as_it_was():
    task = make(optim=replace(OPTIM, trainable="experts_only"))
    before = start(task)
    after, _ = one_step(task, task.batches("train")[0], before)
    for name in before.params:
        for part, tree in before.params[name].items():
            same = toy.same(tree, after.params[name][part])
            assert same == (part not in ("experts", "ghosts")), (name, part)


@pytest.mark.parametrize("trainable", ["all_but_experts", "expert_norms"])
def test_experts_stay_as_they_were_but_for_their_norms(trainable):
    task = make(optim=replace(OPTIM, trainable=trainable))
    before = start(task)
    after, _ = one_step(task, task.batches("train")[0], before)
    assert not toy.same(before.params["head"], after.params["head"])
    for name, tree in before.params["layer_0"]["experts"].items():
        moves = trainable == "expert_norms" and name.startswith("norm")
        assert toy.same(tree, after.params["layer_0"]["experts"][name]) == (not moves), name


@pytest.mark.parametrize("mode, weight, present", [
    ("hgnn", 0.1, False), ("orthogonal", 0.1, True), ("orthogonal", 0.0, False),
])
def test_the_orthogonality_loss_belongs_to_its_modes_and_warms_up(mode, weight, present):
    config = models.small_config(
        mode=mode, vocab_size=0, num_layers=1, orthogonality=Orthogonality(weight, 10)
    )
    task = make(config)
    state, batch = start(task), task.batches("train")[0]
    loss = jax.jit(task.objective)
    at = lambda step: loss(  # noqa: E731
        state.params, None, {}, batch, jax.random.key(1), jnp.asarray(step)
    ).metrics
    assert ("loss/orthogonality" in at(0)) == present
    if present:
        full = at(10)["loss/orthogonality"]
        assert at(0)["loss/orthogonality"] == 0 and 0 < full <= 0.1
        np.testing.assert_allclose(at(5)["loss/orthogonality"], full / 2, rtol=1e-5)
        np.testing.assert_allclose(at(99)["loss/orthogonality"], full, rtol=1e-6)


def test_200_steps_with_evaluation_and_a_waking_ghost_compile_once(tmp_path):
    task = make()
    counts = {"train": 0, "eval": 0}
    train_step, eval_step = task.train_step, task.eval_step

    def counted(name, step):
        def run(*args):
            counts[name] += 1
            return step(*args)
        return run

    task.train_step = counted("train", train_step)
    task.eval_step = counted("eval", eval_step)
    config = Train(steps=200, eval_every=50, save_every=100, log_every=10, progress="off")
    result = fit(task, config, tmp_path)
    assert counts == {"train": 1, "eval": 1}
    # The last validation batch is a partial one.
    assert task.batches("validation")[-1]["mask"].sum() < 8 * 16
    awake = [row["train/ghosts/awake"] for row in result.history if "train/loss" in row]
    assert awake[0] == 0 and awake[-1] == 2
    assert result.metrics["loss"] < task.baselines()["unigram entropy"]
    assert len(task.showcase(result.state)) > 8


def test_ghosts_in_the_seeds_timing_advance_once_a_step():
    ghosts = Ghosts(
        count=2, threshold=0.0, statistic="original", timing="forward", mixing="original"
    )
    config = models.small_config(
        mode="ghost", vocab_size=0, num_layers=1, ghosts=ghosts,
        hypergraph=Hypergraph(operator="original"),
    )
    task = make(config)
    state = start(task)
    step = jax.jit(task.train_step)
    for i in range(3):
        state, metrics = step(state, None, task.batches("train")[i])
        jax.jit(task.eval_step)(state, None, task.batches("validation")[0])
    # Woken in step 1, the second in step 2, both moving in step 3.
    np.testing.assert_allclose(state.extra["ghosts"].levels, [[0.02, 0.02]], atol=1e-7)
    # What the forward used is what the state then holds.
    np.testing.assert_allclose(metrics["ghosts/level/layer_0"], 0.02, atol=1e-7)


def test_prompts_that_do_not_fit_are_refused():
    task = make()
    state = jax.eval_shape(task.init, jax.random.key(0))
    with pytest.raises(UserError, match="10 tokens and 8 new ones exceed the model's 16"):
        task.generate(state, "x" * 10, Sampling(tokens=8), seed=0)


def test_a_vocabulary_that_is_too_small_is_refused():
    with pytest.raises(UserError, match="task.model.vocab_size: 100 is below the 257"):
        make(models.small_config(mode="gnn", vocab_size=100))


def test_a_run_keeps_its_own_tokenizer():
    stored = make().artifacts()["tokenizer.json"]
    other = replace(DATA, tokenizer="bpe:300")
    task = make(data=other, artifacts={"tokenizer.json": stored})
    assert task.tokenizer.vocab_size == 257
    with pytest.raises(UserError, match="tokenizer.json differs"):
        task.batches("train")
