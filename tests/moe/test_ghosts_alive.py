"""A ghost that wakes by itself, takes load and lowers the loss."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.data.config import TextData
from jaxgraph.moe.config import Ghosts, Moe, Optim, Orthogonality
from jaxgraph.moe.ghosts import ACTIVE
from jaxgraph.moe.task import MoeTask
from jaxgraph.train.config import Group, Schedule
from tests.moe import models

SYMBOLS, STEPS = 24, 450
TABLE = np.random.default_rng(0).integers(0, SYMBOLS, (SYMBOLS, SYMBOLS)).astype(np.int32)


def make_batch(i, rows=32):
    """The target is a table's entry for the last two symbols: 576 facts, too many for primaries of
    width 16."""
    ids = np.random.default_rng([1, i]).integers(0, SYMBOLS, (rows, 17)).astype(np.int32)
    mask = np.ones((rows, 16), np.float32)
    # The first target's own past is not among the inputs.
    mask[:, 0] = 0
    return {"inputs": ids[:, 1:], "targets": TABLE[ids[:, :-1], ids[:, 1:]], "mask": mask}


def make_task():
    model = models.small_config(
        mode="ghost", vocab_size=0, num_layers=1, num_heads=2, num_experts=2, ffn_factor=1,
        ghosts=Ghosts(count=2, threshold=0.6, window=60, ramp_steps=20),
        orthogonality=Orthogonality(weight=0.0),
    )
    group = Group(lr=5e-3, schedule=Schedule("constant"))
    optim = Optim(expert=group, ghost=group, shared=group)
    data = TextData(seq_len=16, batch_size=8, max_passages=60)
    return MoeTask(Moe(model, data, optim), total_steps=STEPS, diagnostics_every=999, seed=0)


def test_a_ghost_wakes_by_saturation_takes_load_and_lowers_the_loss():
    task = make_task()
    start = jax.jit(task.init)(jax.random.key(0))
    evaluate = jax.jit(task.eval_step)

    def step(state, batch):
        state, metrics = task.train_step(state, None, batch)
        return state, metrics["ghosts/awake"]

    # The suite compiles without optimising; this many steps are worth some.
    options = {"xla_backend_optimization_level": 1}
    run = jax.jit(partial(jax.lax.scan, step), compiler_options=options)
    batches = jax.tree.map(lambda *x: np.stack(x), *map(make_batch, range(STEPS)))

    def train(state):
        """State at the end, and the steps at which each number of ghosts was first awake."""
        state, awake = run(state, batches)
        numbers, first = np.unique(awake, return_index=True)
        return state, dict(zip(numbers.tolist(), first.tolist(), strict=True))

    def with_ghosts(state, **changes):
        return state.replace(extra={"ghosts": state.extra["ghosts"].replace(**changes)})

    state, first = train(start)
    assert 60 <= first[1] < first[2] < STEPS / 2, first

    test = jax.tree.map(jnp.asarray, make_batch(STEPS, rows=128))
    loss = lambda state: float(evaluate(state, None, test)["loss"])  # noqa: E731
    awake, nobody = loss(state), jnp.zeros((1, 2))
    assert loss(with_ghosts(state, levels=nobody)) > awake + 0.5

    def sizes(state):
        ghosts = state.extra["ghosts"]
        out = task.model.apply({"params": state.params}, test["inputs"], ghosts).layers[0]
        return jnp.linalg.norm(out.outputs - out.origins[0][None], axis=-1).mean((1, 2))

    share = np.asarray(jax.jit(lambda s: sizes(s) / sizes(s).sum())(state))
    assert share[2:].min() > 0.1, share

    # Who is past waking at level 0 never wakes: no threshold, but the program compiled already.
    never, first = train(with_ghosts(start, phase=jnp.full((1, 2), ACTIVE)))
    assert list(first) == [0] and not never.extra["ghosts"].levels.any()
    without = loss(never)
    assert awake < 0.75 * without, (awake, without)
