"""The loop on the toy task: resume, logs, cadence, the policy for non-finite numbers."""

import jax
import numpy as np
import pytest

from jaxgraph.errors import UserError
from jaxgraph.train.config import Parallel, Train
from jaxgraph.train.evaluate import evaluate
from jaxgraph.train.loop import fit
from jaxgraph.train.metrics import read_rows
from tests.train import toy

ONE = Parallel(data=1)
BASE = dict(log_every=2, eval_every=5, save_every=5, progress="off", diagnostics_every=4)


def train(folder, steps=20, task=None, parallel=ONE, seed=0, **options):
    config = Train(steps=steps, **(BASE | options))
    return fit(task or toy.Toy(), config, folder, parallel=parallel, seed=seed)


def test_stopping_and_going_on_gives_the_same_bits(tmp_path):
    whole = train(tmp_path / "whole")
    for steps in (5, 10, 20):
        parts = train(tmp_path / "parts", steps=steps)
    assert toy.same(parts.state, whole.state)
    assert parts.metrics == whole.metrics
    assert not toy.same(train(tmp_path / "other", seed=1).state, whole.state)


def test_the_last_step_is_evaluated_and_saved_whatever_the_cadence(tmp_path):
    first = train(tmp_path, steps=7)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "validation/loss" in row] == [5, 7]
    # A finished run starts again at its end, and is evaluated again.
    again = train(tmp_path, steps=7)
    assert again.metrics == first.metrics and toy.same(again.state, first.state)
    assert train(tmp_path, steps=9).history[0]["step"] == 8


def test_it_learns_and_logs_what_happened(tmp_path):
    result = train(tmp_path, steps=60)
    rows = read_rows(tmp_path / "metrics.jsonl")
    losses = {row["step"]: row["validation/loss"] for row in rows if "validation/loss" in row}
    assert list(losses) == list(range(5, 65, 5)) and losses[60] < 0.8 * losses[5]
    np.testing.assert_allclose(result.metrics["root"] ** 2, losses[60])
    logged = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in logged] == list(range(2, 62, 2))
    costly = [row["step"] for row in logged if "train/diagnostics/grad_norm/body" in row]
    assert costly == list(range(4, 62, 4))
    assert all(row["train/lr/body"] == pytest.approx(0.05) for row in logged)
    # Of the update that was step 2, the second: a cosine from 0.02 over the toy's 20 steps.
    assert logged[0]["train/lr/rest"] == pytest.approx(0.01 * (1 + np.cos(np.pi / 20)))
    assert logged[-1]["train/items"] == toy.Batches(0)[59]["mask"].sum()
    assert (tmp_path / "note.txt").read_text() == "kept"
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_costly_metrics_are_logged_when_due_and_baselines_once(tmp_path):
    options = dict(diagnostics_every=5, log_every=4, eval_every=20, save_every=10)
    for steps in (10, 20):
        train(tmp_path, steps=steps, **options)
    rows = read_rows(tmp_path / "metrics.jsonl")
    name = "train/diagnostics/grad_norm/body"
    costly = {row["step"]: row for row in rows if name in row}
    assert list(costly) == [5, 10, 15, 20] and all(row[name] > 0 for row in costly.values())
    # A row between those of log_every holds nothing else.
    assert "train/loss" in costly[20] and "train/loss" not in costly[15]
    assert all(None not in row.values() for row in rows)
    assert [row for row in rows if "baseline/zero" in row] == [{"step": 0, "baseline/zero": 0.5}]


def test_evaluation_covers_the_split_once_and_weighs_by_real_items(tmp_path):
    task = toy.Toy()
    result = train(tmp_path, steps=5, task=task)
    split = toy.Batches(1, count=3)
    parts = [task.eval_step(result.state, task.frozen(), batch) for batch in split]
    losses, weights = np.array([(part["loss"], part["weight"]) for part in parts]).T
    assert len(set(weights)) > 1
    np.testing.assert_allclose(
        result.metrics["loss"], np.average(losses, weights=weights), rtol=1e-6
    )
    two = evaluate(task.eval_step, result.state, task.frozen(), split, limit=2)
    np.testing.assert_allclose(two["loss"], np.average(losses[:2], weights=weights[:2]), rtol=1e-6)


def test_nothing_is_compiled_again_after_the_first_steps(tmp_path):
    task = toy.Toy()
    train(tmp_path, steps=40, task=task)
    assert task.traces == 1


def test_calls_of_several_steps_give_the_same_run(tmp_path):
    single = train(tmp_path / "single")
    scanned = train(tmp_path / "scanned", steps_per_call=5)
    for a, b in zip(
        jax.tree.leaves(scanned.state.params), jax.tree.leaves(single.state.params), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)
    rows = lambda name: [  # noqa: E731
        (row["step"], round(row["train/loss"], 5))
        for row in read_rows(tmp_path / name / "metrics.jsonl") if "train/loss" in row
    ]
    assert rows("scanned") == rows("single")
    half = train(tmp_path / "half", steps=10, steps_per_call=5)
    assert half.stopped is None
    assert toy.same(train(tmp_path / "half", steps_per_call=5).state, scanned.state)


@pytest.mark.parametrize("bad", [8, 10])
def test_abort_names_term_and_step_and_keeps_the_last_good_checkpoint(tmp_path, bad):
    """Also where the bad step is itself one that is saved."""
    with pytest.raises(UserError, match=rf"step {bad}: .*loss/square.*train\.nonfinite"):
        train(tmp_path, task=toy.Toy(poison=bad - 1), eval_every=100)
    healthy = train(tmp_path / "healthy", steps=5)
    resumed = train(tmp_path, steps=5)
    assert toy.same(resumed.state, healthy.state)


def test_skip_drops_the_step_and_counts(tmp_path):
    result = train(tmp_path, steps=10, task=toy.Toy(poison=7), nonfinite="skip")
    assert np.isfinite(result.state.params["head"]).all() and int(result.state.step) == 10
    assert result.history[-2]["train/skipped_steps"] == 1
    resumed = train(tmp_path, steps=14, task=toy.Toy(poison=7), nonfinite="skip")
    assert resumed.history[-2]["train/skipped_steps"] == 1


@pytest.mark.parametrize("devices", [2, 8])
def test_devices_share_a_batch_and_change_nothing(tmp_path, devices):
    one = train(tmp_path / "one")
    many = train(tmp_path / "many", parallel=Parallel(data=devices))
    for a, b in zip(
        jax.tree.leaves(many.state.params), jax.tree.leaves(one.state.params), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=2e-6)
    assert len(many.state.params["head"].sharding.device_set) == devices


def test_a_run_goes_on_with_another_number_of_devices(tmp_path):
    train(tmp_path / "moved", steps=10, parallel=Parallel(data=8))
    moved = train(tmp_path / "moved", parallel=Parallel(data=2))
    stayed = train(tmp_path / "stayed", parallel=Parallel(data=2))
    np.testing.assert_allclose(
        moved.state.params["head"], stayed.state.params["head"], atol=2e-6
    )


@pytest.mark.parametrize(
    "devices, message", [(3, "8 rows does not divide by 3"), (9, "9 devices asked for, 8")]
)
def test_devices_that_do_not_fit_are_named(tmp_path, devices, message):
    with pytest.raises(UserError, match=message):
        train(tmp_path, parallel=Parallel(data=devices))
