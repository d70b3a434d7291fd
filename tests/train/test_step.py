"""The step: accumulation, groups, the guard against non-finite numbers, foreign transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.train.state import new_state
from jaxgraph.train.step import LossOutput, make_train_step, scan_steps
from tests.train import toy


def quiet_loss(params, frozen, extra, batch, key, step):
    """The toy loss without noise, which differs between micro-batches by design."""
    batch = batch | {"x": batch["x"]}
    guess = jnp.tanh(batch["x"] @ params["body"]["kernel"]) @ params["head"]
    weight = batch["mask"].sum()
    square = jnp.square(guess - batch["y"])
    mean = jnp.sum(batch["mask"] * square) / jnp.maximum(weight, 1)
    return LossOutput(mean, weight, {"loss/square": mean}, {"mean": mean})


def ragged_batch():
    """Micro-batches of 3, 1, 0 and 2 real rows."""
    batch = toy.Batches(0)[0]
    mask = np.zeros(8, np.float32)
    mask[[0, 4, 1, 3, 7]] = 1
    return batch | {"mask": mask}


def build(loss=quiet_loss, **options):
    task = toy.Toy()
    step = make_train_step(
        loss, task._optimizer, update_extra=lambda _, stats: {"mean_y": stats["mean"]}, **options
    )
    state = task.init(jax.random.key(0))
    state = state.replace(params=state.params | {"head": jnp.linspace(-1, 1, 16)})
    return jax.jit(step), state


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_micro_batches_equal_one_big_batch_also_with_ragged_masks(parts):
    whole, state = build()
    split, _ = build(accumulate=parts)
    expected, expected_metrics = whole(state, None, ragged_batch())
    found, metrics = split(state, None, ragged_batch())
    for a, b in zip(
        jax.tree.leaves((found.params, found.opt_state, found.extra)),
        jax.tree.leaves((expected.params, expected.opt_state, expected.extra)), strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)
    for name in ("loss", "grad_norm", "items", "loss/square"):
        np.testing.assert_allclose(metrics[name], expected_metrics[name], rtol=1e-6)


def test_a_batch_that_does_not_divide_is_refused():
    step, state = build(accumulate=3)
    with pytest.raises(ValueError, match="8 rows is not a multiple of accumulate 3"):
        step(state, None, ragged_batch())


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing_but_the_count(where):
    def broken(params, *rest):
        out = quiet_loss(params, *rest)
        if where == "loss":
            return out._replace(loss=out.loss + jnp.nan)
        # sqrt has an infinite slope at 0: the loss is finite, its gradient is not.
        return out._replace(loss=out.loss + jnp.sqrt(params["head"][0] - params["head"][0]))

    step, state = build(broken)
    after, metrics = step(state, None, ragged_batch())
    assert metrics["skipped"] == 1 and after.step == 1
    assert toy.same(after.replace(step=state.step), state)
    healthy, _ = build()
    assert healthy(state, None, ragged_batch())[1]["skipped"] == 0


def test_expensive_metrics_are_computed_every_nth_step_only():
    task = toy.Toy()
    step, state = jax.jit(task.train_step), task.init(jax.random.key(0))
    seen = []
    for i in range(10):
        state, metrics = step(state, task.frozen(), toy.Batches(0)[i])
        seen.append(bool(np.isfinite(metrics["diagnostics/grad_norm/body"])))
    assert seen == [False] * 4 + [True] + [False] * 4 + [True]


def test_scanned_steps_equal_single_steps():
    task = toy.Toy()
    batches = [toy.Batches(0)[i] for i in range(4)]
    state = task.init(jax.random.key(0))
    stacked = jax.tree.map(lambda *x: np.stack(x), *batches)
    scanned, metrics = jax.jit(scan_steps(task.train_step, 4))(state, task.frozen(), stacked)
    single = jax.jit(task.train_step)
    for batch in batches:
        state, last = single(state, task.frozen(), batch)
    np.testing.assert_allclose(metrics["loss"][-1], last["loss"], rtol=1e-6)
    for a, b in zip(
        jax.tree.leaves(scanned.params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_each_step_and_micro_batch_draws_noise_of_its_own():
    def noisy(*args):
        out = quiet_loss(*args)
        return out._replace(stats={"mean": jax.random.uniform(args[4])})

    step, state = build(noisy, accumulate=2)
    batch = ragged_batch() | {"mask": np.ones(8, np.float32)}
    for i in range(2):
        key = jax.random.fold_in(state.key, i)
        drawn = [jax.random.uniform(jax.random.fold_in(key, part)) for part in (0, 1)]
        state, _ = step(state, None, batch)
        np.testing.assert_allclose(state.extra["mean_y"], np.mean(drawn), rtol=1e-6)


def test_the_step_runs_under_vmap_over_seeds():
    task = toy.Toy()
    states = jax.vmap(task.init)(jax.random.split(jax.random.key(0), 3))
    batch = toy.Batches(0)[0]
    many, metrics = jax.jit(jax.vmap(task.train_step, (0, None, None)))(
        states, task.frozen(), batch
    )
    assert metrics["loss"].shape == (3,)
    one, _ = jax.jit(task.train_step)(
        jax.tree.map(lambda x: x[1], states), task.frozen(), batch
    )
    np.testing.assert_allclose(many.params["head"][1], one.params["head"], atol=1e-6)


def test_a_state_holds_arrays_only():
    state = new_state({"w": jnp.ones(2)}, (), {}, jax.random.key(0))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
