"""A checkpoint fits any mesh: what was saved under one form of a state is read into another."""

import jax
import numpy as np
import pytest

from jaxgraph.train.checkpoint import Checkpoints
from jaxgraph.train.config import Parallel, Train
from jaxgraph.train.loop import fit
from jaxgraph.train.runner import make_runner
from tests.parallel import systems
from tests.train import toy

FORMS = {
    "one": Parallel(data=1),
    "two": Parallel(data=2),
    "four": Parallel(data=4),
    "eight": Parallel(data=8),
    "pmap": Parallel("pmap", data=8),
    "fsdp": Parallel(data=8, fsdp=True),
    "experts": Parallel(data=2, expert=4),
}


def runner_of(form):
    return make_runner(systems.task("moe"), FORMS[form], rows=systems.ROWS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of checkpoints by form."""
    folders = {}

    def save(form):
        if form not in folders:
            folders[form] = tmp_path_factory.mktemp(form) / "c"
            state = systems.begin("moe", runner_of(form))
            with Checkpoints(folders[form]) as checkpoints:
                checkpoints.save(5, state, {"next_batch": 5, "skipped": 0})
        return folders[form]

    return save


MOVES = [
    ("eight", "one"), ("eight", "two"), ("eight", "four"), ("fsdp", "one"), ("experts", "fsdp"),
    ("fsdp", "pmap"),
]  # fmt: skip


@pytest.mark.parametrize("before, after", MOVES)
def test_a_state_comes_back_bit_for_bit_and_lies_as_it_should(saved, before, after):
    runner = runner_of(after)
    with Checkpoints(saved(before), read_only=True) as checkpoints:
        state, _ = checkpoints.restore(runner.template(), 5)
    assert toy.same(state, systems.start("moe"))
    for leaf, sharding in zip(*map(jax.tree.leaves, (state, runner.sharding)), strict=True):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)


def test_a_run_moves_between_pmap_and_meshes(tmp_path):
    """Steps on one form, on the next from its checkpoint, and so on: one run."""

    def train(name, steps, parallel):
        config = Train(steps=steps, save_every=5, eval_every=20, progress="off")
        return fit(toy.Toy(), config, tmp_path / name, parallel=parallel)

    expected = train("whole", 20, FORMS["one"])
    for steps, form in ((5, "pmap"), (10, "two"), (15, "pmap"), (20, "eight")):
        moved = train("moved", steps, FORMS[form])
    for a, b in zip(
        *(jax.tree.leaves((r.state.params, r.state.opt_state)) for r in (moved, expected)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=2e-6)
    assert moved.metrics["loss"] == pytest.approx(expected.metrics["loss"], rel=1e-5)


def test_steps_that_are_scanned_are_the_same_under_pmap(tmp_path):
    config = Train(steps=10, steps_per_call=5, save_every=10, eval_every=10, progress="off")
    runs = [
        fit(toy.Toy(), config, tmp_path / name, parallel=FORMS[name]) for name in ("pmap", "one")
    ]
    assert runs[0].metrics["loss"] == pytest.approx(runs[1].metrics["loss"], rel=1e-6)
    assert [row["step"] for row in runs[0].history] == [row["step"] for row in runs[1].history]
