"""Sleeping ghosts that learn in the background or are compared, and what they must not touch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.data.config import TextData
from jaxgraph.moe.config import Ghosts, Moe, Optim, Rotation
from jaxgraph.moe.ghosts import init_ghosts
from jaxgraph.moe.model import LanguageModel
from jaxgraph.moe.objective import Objective
from jaxgraph.moe.rehearsal import rehearse
from jaxgraph.moe.rotation import make_turns
from jaxgraph.moe.task import MoeTask
from jaxgraph.train.config import Group, Schedule
from tests.moe import models

KEY, STEP = jax.random.key(1), jnp.zeros((), jnp.int32)
TURNED = dict(
    train_mode="geometric_routed", rotation=Rotation(planes=2, angles="token", undo=False)
)


def make_batch(rows=2):
    ids = models.tokens(rows)
    mask = jnp.arange(rows * 8).reshape(rows, 8) % 3 > 0
    mask = mask.at[0, 2:].set(False).astype(jnp.float32)
    return {"inputs": ids[:, :-1], "targets": ids[:, 1:], "mask": mask}


def make_objective(ghosts, **options):
    """Objective, parameters and `extra` of a model whose ghosts all sleep."""
    model = LanguageModel(models.small_config(mode="ghost", ghosts=ghosts, **options))
    extra = {"ghosts": init_ghosts(model.config)}
    return Objective(model, 32), models.random_params(model), extra


@pytest.mark.parametrize("options", [{}, TURNED])
def test_alignment_and_scores_equal_the_slow_computation(options):
    objective, params, extra = make_objective(Ghosts(2, schedule="selective"), **options)
    config, batch = objective.model.config, make_batch()
    target = jax.random.normal(KEY, (2, 8, 16))
    awake = extra["ghosts"].replace(levels=jnp.array([[1.0, 1.0], [0.0, 0.0]]))

    @jax.jit
    def both(params):
        run = lambda state: objective.model.apply(  # noqa: E731
            {"params": params}, batch["inputs"], state
        )
        out = run(extra["ghosts"])
        who = jnp.array([[False, True], [False, False]])
        found = rehearse(params, out, who, target, batch["mask"], config)
        # The first layer reads the same whoever sleeps: awake, its ghost says what it would add.
        return found, run(awake).layers[0], out.streams[0]

    found, layer, x = both(params)
    outputs, x = np.asarray(layer.outputs, np.float64), np.asarray(x, np.float64)
    origin = x
    if options:
        own = jax.tree.map(lambda p: p[4], params["layer_0"]["rotation"])
        turn = make_turns(config.rotation, jax.tree.map(lambda p: p[None], own))
        origin = jax.vmap(lambda t: t.origin(jnp.asarray(x, jnp.float32)))(turn)[0]
    cosines, updates = [], outputs[:3] - np.asarray(layer.origins, np.float64)
    for row, column in zip(*np.nonzero(batch["mask"]), strict=True):
        span, wanted = updates[:, row, column].T, np.asarray(target[row, column], np.float64)
        left = wanted - span @ np.linalg.lstsq(span, wanted, rcond=None)[0]
        update = outputs[4, row, column] - np.asarray(origin)[row, column]
        cosines.append(left @ update / np.linalg.norm(left) / np.linalg.norm(update))
    np.testing.assert_allclose(found.alignment, [[0, np.mean(cosines)], [0, 0]], atol=2e-4)
    np.testing.assert_allclose(found.scores, [[0, np.mean(np.square(cosines))], [0, 0]], atol=2e-4)


@pytest.mark.slow
def test_only_sleeping_ghosts_feel_the_background_loss():
    batch, found = make_batch(), {}
    for weight in (0.0, 0.5):
        objective, params, extra = make_objective(Ghosts(2, background_weight=weight))
        extra["ghosts"] = extra["ghosts"].replace(levels=jnp.array([[0.5, 0.0], [0.0, 0.0]]))
        run = lambda p, o=objective, e=extra: o(p, None, e, batch, KEY, STEP)  # noqa: E731
        found[weight] = jax.jit(jax.grad(lambda p, r=run: r(p)[0::2], has_aux=True))(params)
    (plain, _), (grads, metrics) = found[0.0], found[0.5]
    loss = sum(0.5 * n * (1 - metrics[f"ghosts/alignment/layer_{i}"]) for i, n in ((0, 1), (1, 2)))
    np.testing.assert_allclose(metrics["loss/background"], loss, rtol=1e-5)
    for i, asleep in ((0, [1]), (1, [0, 1])):
        ours, theirs = (tree[f"layer_{i}"].pop("ghosts") for tree in (grads, plain))
        for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
            for ghost in (0, 1):
                if ghost not in asleep:
                    np.testing.assert_allclose(a[ghost], b[ghost], atol=1e-6)
                else:
                    assert (b[ghost] == 0).all()
        assert min(float(jnp.abs(ours["up"]["kernel"][g]).max()) for g in asleep) > 1e-4
    for a, b in zip(*map(jax.tree.leaves, (grads, plain)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_scores_of_parts_average_to_those_of_the_whole_batch():
    objective, params, extra = make_objective(Ghosts(2, schedule="selective"), num_layers=1)
    extra["ghosts"] = extra["ghosts"].replace(armed=jnp.array([True]))
    run = jax.jit(lambda batch: objective(params, None, extra, batch, KEY, STEP))
    batch = make_batch(4)
    halves = [run(jax.tree.map(lambda x, s=s: x[s], batch)) for s in (slice(2), slice(2, 4))]
    whole = run(batch)
    weights = np.array([half.weight for half in halves])
    assert weights[0] != weights[1] and (np.asarray(whole.stats["scores"]) > 0).all()
    mean = np.average([half.stats["scores"] for half in halves], axis=0, weights=weights)
    np.testing.assert_allclose(whole.stats["scores"], mean, atol=1e-6)


def make_task(ghosts):
    model = models.small_config(mode="ghost", vocab_size=0, num_layers=1, ghosts=ghosts)
    steady = Group(lr=3e-3, schedule=Schedule("constant"))
    optim = Optim(expert=steady, ghost=steady, shared=steady)
    data = TextData(seq_len=8, batch_size=4)
    return MoeTask(Moe(model, data, optim), total_steps=50, diagnostics_every=99, seed=0)


def start(task):
    state = jax.eval_shape(task.init, jax.random.key(0))
    state = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state.replace(key=()))
    extra = {"ghosts": init_ghosts(task.model.config)}
    return state.replace(params=models.random_params(task.model), extra=extra, key=KEY)


def test_a_run_arms_compares_and_wakes_the_ghost_that_explains_more():
    # Background learning goes on meanwhile, and one compiled step does it all.
    task = make_task(Ghosts(
        2, threshold=0.1, window=4, schedule="selective", ramp_steps=10, background_weight=0.1
    ))
    state = start(task)
    mute = lambda p: p.at[0].set(0)  # noqa: E731
    bank = state.params["layer_0"]["ghosts"]
    bank["down"], bank["attention"]["out"] = (
        jax.tree.map(mute, part) for part in (bank["down"], bank["attention"]["out"])
    )
    traces = []
    step = jax.jit(lambda *args: traces.append(0) or task.train_step(*args))
    levels, alignments = [], []
    for _ in range(30):
        state, metrics = step(state, None, make_batch())
        levels.append(np.round(10 * np.asarray(state.extra["ghosts"].levels[0])).tolist())
        alignments.append(float(metrics["ghosts/alignment/layer_0"]))
    assert levels[:7] == [[0, 0]] * 4 + [[0, 1], [0, 2], [0, 3]]
    assert levels[8:10] == [[0, 5], [1, 6]]
    # From step 10 on none sleeps, and nothing is measured.
    assert alignments[4] > alignments[0] + 0.05 and alignments[10:] == [0] * 20
    assert len(traces) == 1


def test_sleeping_ghosts_cost_no_flops_and_neither_do_options_that_are_off():
    def flops(count=2, level=0.0, armed=False, grad=False, **options):
        objective, params, extra = make_objective(
            Ghosts(count, **options), num_layers=1, width=64, expert_loop="vmap"
        )
        batch, state = make_batch(), extra["ghosts"]

        def score(params):
            # Constants of the program, so that the compiler drops branches not taken: its count
            # otherwise takes the dearer one.
            state_now = state.replace(
                levels=jnp.full((1, count), level), armed=jnp.full(1, armed)
            )
            extra = {"ghosts": state_now} if count else {}
            return objective(params, None, extra, batch, KEY, STEP)[0::3]

        program = jax.jit(jax.grad(score, has_aux=True) if grad else score)
        return program.lower(params).compile().cost_analysis()["flops"]

    assert flops(grad=True) < 1.03 * flops(count=0, grad=True)
    asleep = flops()
    assert asleep < 1.03 * flops(count=0)
    assert flops(level=0.5) > 1.2 * asleep
    assert flops(schedule="selective", lr_coupling="inverse") < 1.001 * asleep
    assert flops(schedule="selective", armed=True) > 1.05 * asleep
    assert flops(background_weight=0.1) > 1.05 * asleep
