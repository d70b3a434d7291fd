"""A ghost that wakes by itself, takes load and lowers the loss."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.data.config import TextData
from jaxgraph.moe.config import Ghosts, Moe, Optim, Orthogonality
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


def train(threshold):
    """Task, state at the end, and steps after which each number of ghosts was first awake."""
    model = models.small_config(
        mode="ghost", vocab_size=0, num_layers=1, num_heads=2, num_experts=2, ffn_factor=1,
        ghosts=Ghosts(count=2, threshold=threshold, window=60, ramp_steps=20),
        orthogonality=Orthogonality(weight=0.0),
    )
    group = Group(lr=5e-3, schedule=Schedule("constant"))
    optim = Optim(expert=group, ghost=group, shared=group)
    data = TextData(seq_len=16, batch_size=8, max_passages=60)
    task = MoeTask(Moe(model, data, optim), total_steps=STEPS, diagnostics_every=999, seed=0)
    state, step, first = jax.jit(task.init)(jax.random.key(0)), jax.jit(task.train_step), {}
    for i in range(STEPS):
        state, metrics = step(state, None, make_batch(i))
        first.setdefault(int(metrics["ghosts/awake"]), i)
    return task, state, first


def test_a_ghost_wakes_by_saturation_takes_load_and_lowers_the_loss():
    task, state, first = train(threshold=0.6)
    assert 60 <= first[1] < first[2] < STEPS / 2

    test, ghosts = make_batch(STEPS, rows=128), state.extra["ghosts"]
    layer = jax.jit(
        lambda: task.model.apply({"params": state.params}, test["inputs"], ghosts).layers[0]
    )()
    sizes = jnp.linalg.norm(layer.outputs - layer.origins[0][None], axis=-1).mean((1, 2))
    share = np.asarray(sizes / sizes.sum())
    assert share[2:].min() > 0.1, share

    evaluate = jax.jit(task.eval_step)
    loss = lambda state: float(evaluate(state, None, test)["loss"])  # noqa: E731
    asleep = state.replace(extra={"ghosts": ghosts.replace(levels=jnp.zeros((1, 2)))})
    awake = loss(state)
    assert loss(asleep) > awake + 0.5

    _, never, first = train(threshold=2.0)
    assert list(first) == [0] and not never.extra["ghosts"].levels.any()
    without = loss(never)
    assert awake < 0.75 * without, (awake, without)
    print(f"awake {awake:.3f}, asleep again {loss(asleep):.3f}, never awake {without:.3f}", share, first)
