"""The task: steps, evaluation, what the loop does with it, and no transfer on the way."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.data.config import NumbersData
from jaxgraph.errors import UserError
from jaxgraph.train.config import Group, Parallel, Schedule, Train
from jaxgraph.train.loop import fit
from jaxgraph.train.step import scan_steps
from jaxgraph.vae.config import Controller, Model, Objective, Optim, Separability, Vae
from jaxgraph.vae.task import VaeTask
from tests.train import toy
from tests.vae import models

STEADY = Optim(group=Group(kind="adam", lr=3e-3, schedule=Schedule("constant")))
CONFIG = Vae(
    model=models.small(inputs=0),
    objective=Objective(beta_warmup_steps=20),
    data=NumbersData(bits=models.INPUTS, batch_size=12),
    optim=STEADY,
)


class FakeSource:
    inputs, class_of = models.INPUTS, (0, 1, 2, 1, 0, 2)

    def batches(self, split, seed):
        return models.Batches() if split == "train" else models.Batches(3, start=1000)

    def pool(self):
        return None

    def describe(self):
        return {}

    def packed(self, split):
        return np.concatenate([batch["bits"] for batch in models.Batches(20)])


def make(config=CONFIG):
    task = VaeTask(config, total_steps=100, diagnostics_every=1000, seed=0)
    task.source = FakeSource()
    return task


def start(task):
    state = task.init(jax.random.key(0))
    return state.replace(params=models.random_params(task.model.config))


def stack(count):
    batches = [models.batch(seed=i) for i in range(count)]
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *batches)


@pytest.fixture(scope="module")
def task():
    return make()


def test_steps_in_one_call_equal_single_steps_and_transfer_nothing(task):
    state, batches = start(task), stack(4)
    many = jax.jit(scan_steps(task.train_step, 4))
    one = jax.jit(task.train_step)
    expected = state
    for i in range(4):
        expected, metrics = one(expected, None, jax.tree.map(lambda x, i=i: x[i], batches))
    many(state, None, batches)  # constants of the program travel once, when it is compiled
    with jax.transfer_guard("disallow"):
        found, stacked = many(state, None, batches)
        jax.block_until_ready(found)
    for a, b in zip(*map(jax.tree.leaves, (found.params, expected.params)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    for name, value in metrics.items():
        np.testing.assert_allclose(stacked[name][-1], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_jitted_step_does_transfer_what_is_not_there_yet(task):
    """The guard of the test above is one that notices."""
    with pytest.raises(Exception, match="[Dd]isallowed"), jax.transfer_guard("disallow"):
        jax.jit(task.eval_step)(start(task), None, models.batch())


def test_the_loop_trains_and_compiles_once(tmp_path, task):
    counts = {"train": 0, "eval": 0}
    inner = task.train_step, task.eval_step

    def counted(name, step):
        def run(*args):
            counts[name] += 1
            return step(*args)
        return run

    task = make()
    task.train_step, task.eval_step = counted("train", inner[0]), counted("eval", inner[1])
    config = Train(
        steps=200, steps_per_call=10, eval_every=100, save_every=200, log_every=20, progress="off"
    )
    result = fit(task, config, tmp_path, parallel=Parallel(data=1))
    assert counts == {"train": 1, "eval": 1}
    # Half of the bits are one class's sign: learnable, and worth a latent.
    assert result.metrics["loss"] < task.baselines("train")["constant decoder"] - 2
    assert result.metrics["bit_accuracy"] > 0.65
    assert "collapsed" not in task.showcase(result.state)
    names = {name for row in result.history for name in row}
    wanted = {"elbo/nll", "elbo/kl", "elbo/beta", "separability/score", "separability/adjusted",
              "separability/lambda", "loss"}  # fmt: skip
    assert {f"train/{name}" for name in wanted} <= names


def test_collapse_is_reported_as_collapse(task):
    state = start(task)
    head = jax.tree.map(jnp.zeros_like, state.params["encoder_head"])
    state = state.replace(params=state.params | {"encoder_head": head})
    assert "collapsed" in task.showcase(state) and "0 of 8" in task.showcase(state)


def test_a_mixture_prior_counts_means_that_vary():
    task = make(replace(CONFIG, model=models.small("mixture prior", inputs=0)))
    state = start(task)
    assert "8 of 8 latent dimensions vary" in task.showcase(state)
    head = jax.tree.map(jnp.zeros_like, state.params["encoder_head"])
    state = state.replace(params=state.params | {"encoder_head": head})
    assert "0 of 8" in task.showcase(state) and "collapsed" in task.showcase(state)


def test_evaluation_is_at_beta_one_and_leaves_padding_out(task):
    state, evaluate = start(task), jax.jit(task.eval_step)
    batch = models.batch()
    found = evaluate(state, None, batch)
    assert float(found["loss"]) == pytest.approx(float(found["nll"] + found["kl"]), rel=1e-6)
    again = evaluate(state.replace(step=jnp.asarray(7), key=jax.random.key(9)), None, batch)
    assert all(float(found[name]) == float(again[name]) for name in found)
    padded = {name: value.copy() for name, value in batch.items()}
    padded["mask"][5:] = 0
    padded["bits"][5:] = 0
    shuffled = {name: value.copy() for name, value in padded.items()}
    shuffled["label"][5:] = 2
    first, second = (evaluate(state, None, b) for b in (padded, shuffled))
    assert first["weight"] == 5 and all(float(first[n]) == float(second[n]) for n in first)


def test_micro_batches_are_only_allowed_where_they_equal_one_batch():
    free_bits = replace(CONFIG, objective=Objective(free_bits=0.1))
    for config, name in (
        (replace(CONFIG, separability=Separability(weight=1.0)), "separability.weight"),
        (free_bits, "objective.free_bits_over"),
    ):
        assert not list(config.problems())
        [(key, text)] = replace(config, optim=replace(STEADY, accumulate=3)).problems()
        assert key == "optim.accumulate" and name in text
    each = replace(free_bits, objective=Objective(free_bits=0.1, free_bits_over="sample"))
    assert not list(replace(each, optim=replace(STEADY, accumulate=3)).problems())


def test_half_a_million_of_lambda_without_gradient_changes_nothing(task):
    apart = Separability(weight=1e6, warmup_steps=0, ramp_steps=1, gradient=False)
    # The plain run scores in the same way, so that both draw alike.
    plain = make(replace(CONFIG, separability=replace(apart, weight=0.0)))
    scored = make(replace(CONFIG, separability=apart))
    meant = make(replace(CONFIG, separability=replace(apart, gradient=True)))
    states = []
    for one in (plain, scored, meant):
        state, _ = jax.jit(scan_steps(one.train_step, 3))(start(one), None, stack(3))
        states.append(state.params)
    assert toy.close(states[0], states[1]) and not toy.close(states[0], states[2])


def test_the_controllers_state_is_part_of_the_run():
    objective = Objective(controller=Controller(target=2.0))
    controlled = make(replace(CONFIG, objective=objective))
    state = start(controlled)
    after, metrics = jax.jit(controlled.train_step)(state, None, models.batch())
    assert metrics["elbo/beta"] == 0 and after.extra["controller"].beta > 0


def test_a_width_that_the_data_do_not_have_is_refused():
    with pytest.raises(UserError, match="task.model.inputs: got 7, but the data have 24"):
        make(replace(CONFIG, model=Model(inputs=7)))
