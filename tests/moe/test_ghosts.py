"""The ghosts' state machine and the statistics that drive it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.data.config import TextData
from jaxgraph.moe import ghosts
from jaxgraph.moe.config import Ghosts, Moe, Optim
from jaxgraph.train.config import Group, Schedule
from tests.moe import models

ORIGINAL = Ghosts(count=2, statistic="original", timing="forward", mixing="original")


def walk(config, triggers, count=2):
    """Levels after each trigger of one layer."""
    levels, phase = jnp.zeros(count), jnp.zeros(count, jnp.int32)
    step, trace = jax.jit(lambda *x: ghosts.wake(*x, config)), []
    for trigger in triggers:
        levels, phase = step(levels, phase, jnp.asarray(trigger))
        trace.append([float(x) for x in levels])
    return np.array(trace), np.asarray(phase)


def test_the_seeds_controller_moves_nobody_in_a_step_that_wakes_one():
    trace, phase = walk(ORIGINAL, [False, True, False, True, True, False])
    step = np.float32(0.01)
    expected = [[0, 0], [1, 0], [2, 0], [2, 1], [3, 2], [4, 3]]
    np.testing.assert_allclose(trace, np.array(expected) * step, atol=1e-7)
    assert phase.tolist() == [1, 1]


def test_a_ramp_ends_at_one_and_stays():
    trace, phase = walk(Ghosts(count=1, ramp_steps=4), [True] + [False] * 6, count=1)
    np.testing.assert_allclose(trace[:, 0], [0.25, 0.5, 0.75, 1, 1, 1, 1])
    assert phase.tolist() == [ghosts.ACTIVE]


def test_the_binary_schedule_jumps():
    trace, phase = walk(Ghosts(count=2, schedule="binary"), [True, False])
    assert trace.tolist() == [[1, 0], [1, 0]] and phase.tolist() == [2, 0]


def test_nobody_wakes_before_the_window_is_full_nor_for_a_short_peak():
    config = models.small_config(
        mode="ghost", num_layers=1, ghosts=Ghosts(count=2, threshold=0.5, window=4, ramp_steps=10)
    )

    def run(values):
        state, awake = ghosts.init_ghosts(config), []
        for value in values:
            state = ghosts.advance(state, jnp.array([value]), config.ghosts)
            awake.append(int((state.levels > 0).sum()))
        return awake

    assert run([0.9] * 10) == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert run([0.9, 0.1, 0.1, 0.1] * 3) == [0] * 12
    assert run([0.1] * 8 + [0.8] * 3) == [0] * 10 + [1]


def test_selective_wakes_the_best_sleeper_a_step_after_the_window_is_full():
    options = Ghosts(count=3, threshold=0.5, window=3, ramp_steps=4, schedule="selective")
    config = models.small_config(mode="ghost", num_layers=2, ghosts=options)
    state, seen = ghosts.init_ghosts(config), []
    step = jax.jit(lambda *x: ghosts.advance(*x[:2], config.ghosts, x[2]))
    # The scores of steps that nobody has armed must not count; the second layer is content.
    armed = {3: [0.1, 0.9, 0.2], 7: [0.4, 0.95, 0.4], 11: [0.0, 1.0, 0.0]}
    for i in range(16):
        scores = jnp.tile(jnp.array(armed.get(i, [1.0, 0.0, 2.0])), (2, 1))
        state = step(state, jnp.array([0.9, 0.1]), scores)
        levels = (4 * np.asarray(state.levels)).tolist()
        seen.append((bool(state.armed[0]), levels[0]))
        assert levels[1] == [0, 0, 0] and not state.armed[1]
    assert [armed for armed, _ in seen] == [i in (2, 6, 10) for i in range(16)]
    assert [levels for _, levels in seen[:9]] == (
        [[0, 0, 0]] * 3 + [[0, 1, 0], [0, 2, 0], [0, 3, 0], [0, 4, 0], [1, 4, 0], [2, 4, 0]]
    )
    # Equals: the lowest index first; awake ones are not chosen again.
    assert seen[11][1] == [4, 4, 1] and seen[15][1] == [4, 4, 4]


def test_options_that_exclude_each_other_are_named():
    found = lambda **options: [key for key, _ in Ghosts(count=1, **options).problems()]  # noqa: E731
    assert found(schedule="selective") == []
    assert found(schedule="selective", statistic="original", timing="forward") == ["schedule"]
    assert found(background_weight=0.1, lr_coupling="inverse") == ["background_weight"]
    ghosts, constant = Ghosts(count=1, lr_coupling="inverse"), Group(schedule=Schedule("constant"))

    def run(**optim):
        model = models.small_config(mode="ghost", ghosts=ghosts)
        data = TextData(seq_len=16)
        return [key for key, _ in Moe(model, data, Optim(**optim)).problems()]

    assert run() == ["optim.ghost.schedule.kind"] and run(ghost=constant) == []
    assert run(ghost=constant, expert=Group(kind="frozen")) == ["model.ghosts.lr_coupling"]


def test_unexplained_share_of_known_geometry():
    updates = jnp.stack([jnp.eye(4)[0], jnp.eye(4)[0] + jnp.eye(4)[1]])[:, None, None]
    inside, outside = jnp.eye(4)[1], jnp.eye(4)[3]
    share = lambda target: float(ghosts.unexplained_share(updates, target[None, None])[0, 0])  # noqa: E731
    np.testing.assert_allclose([share(inside), share(outside)], [0, 1], atol=1e-4)
    np.testing.assert_allclose(share(3 * inside + 4 * outside), 16 / 25, atol=1e-4)
    parallel = jnp.ones((3, 1, 1, 4)) * jnp.array([1.0, -2.0, 0.5])[:, None, None, None]
    found = ghosts.unexplained_share(parallel, jnp.eye(4)[0][None, None])
    np.testing.assert_allclose(found, 0.75, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_statistics_do_not_depend_on_the_size_of_updates(scale):
    updates = jax.random.normal(jax.random.key(0), (3, 2, 5, 8))
    target, mask = jax.random.normal(jax.random.key(1), (2, 5, 8)), jnp.ones((2, 5))
    expected = ghosts.measure(updates, target, mask)
    found = ghosts.measure(scale * updates, target, mask)
    np.testing.assert_allclose(jnp.stack(found), jnp.stack(expected), rtol=1e-3)


def test_orthogonality_of_equal_and_of_orthogonal_experts():
    target, mask = jnp.ones((1, 1, 4)), jnp.ones((1, 1))
    score = lambda updates: float(ghosts.measure(updates, target, mask).orthogonality)  # noqa: E731
    np.testing.assert_allclose(score(jnp.ones((3, 1, 1, 4))), 0, atol=1e-6)
    np.testing.assert_allclose(score(jnp.eye(4)[:3, None, None] * 5), 1, atol=1e-6)


def test_padding_does_not_count():
    updates = jax.random.normal(jax.random.key(0), (3, 2, 5, 8))
    target = jax.random.normal(jax.random.key(1), (2, 5, 8))
    mask = jnp.ones((2, 5)).at[:, 3:].set(0)
    expected = ghosts.measure(updates[:, :, :3], target[:, :3], mask[:, :3])
    found = ghosts.measure(updates, target, mask)
    np.testing.assert_allclose(jnp.stack(found), jnp.stack(expected), rtol=1e-6)


def test_the_seeds_scores_from_moments():
    outputs = np.random.default_rng(0).normal(size=(3, 2, 5, 8)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(2, 5, 8)).astype(np.float32)
    found = ghosts.original_scores(ghosts.measure_original(jnp.asarray(outputs), jnp.asarray(x)))
    mean = outputs.astype(np.float64).mean((1, 2))
    unit = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    score = 1 - np.mean((unit @ unit.T - np.eye(3)) ** 2)
    variance = np.var(x.astype(np.float64) - outputs.mean(0), ddof=1)
    np.testing.assert_allclose(jnp.stack(found), [score, variance], rtol=1e-5)


def test_ghosts_that_sleep_have_no_gradient_and_awake_ones_do():
    model, params, state = models.make("ghost awake")
    ids = models.tokens()

    @jax.jit
    def gradient(levels):
        def score(params):
            hidden = model.apply({"params": params}, ids, state.replace(levels=levels)).hidden
            return hidden[..., 0].sum()

        return jax.grad(score)(params)

    def sizes(levels):
        grads = gradient(jnp.asarray(levels))
        return [
            [float(jnp.abs(grads[f"layer_{i}"]["ghosts"]["up"]["kernel"][g]).sum()) for g in (0, 1)]
            for i in (0, 1)
        ]

    found = sizes([[1.0, 0.0], [0.0, 0.0]])
    assert found[0][0] > 0 and found[0][1] == 0 and found[1] == [0, 0]
