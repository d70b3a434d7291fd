"""The task on real digits: trains, resumes bit for bit, is evaluated and exported."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxgraph import config as configs
from jaxgraph import runs
from jaxgraph.neurograph.export import read_model
from jaxgraph.systems import make_task
from jaxgraph.train.loop import fit

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import convert  # noqa: E402
import tune  # noqa: E402

SMOKE, STEPS = "configs/smoke/neurograph.yaml", 120
OPTIONS = (
    "--task.learning.graph.widths", "4", "6", "--task.learning.graph.stride", "2",
    "--train.steps_per_call", "5", "--train.eval_every", "60", "--train.save_every", "60",
    "--train.diagnostics_every", "20", "--train.progress", "off",
    "--task.evaluation.rival_epochs", "20", "--parallel.data", "1",
)  # fmt: skip


def train(folder, *options, steps=STEPS):
    config = configs.load([
        "--config", SMOKE, *OPTIONS, "--workdir", str(folder), "--train.steps", str(steps), *options
    ])  # fmt: skip
    runs.claim(config)
    result = fit(
        make_task(config), config.train, folder, parallel=config.parallel, seed=config.seed,
        resolved=configs.to_dict(config),
    )
    return result


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, train(folder)


def test_a_run_that_stopped_goes_on_bit_for_bit(run, tmp_path):
    folder, whole = run
    # The schedule must be that of the longer run.
    constant = ("--task.learning.optim.schedule.decay_steps", str(STEPS))
    train(tmp_path, *constant, steps=60)
    resumed = train(tmp_path, *constant)
    for a, b in zip(
        *(jax.tree.leaves((x.state.params, x.state.opt_state)) for x in (whole, resumed)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert whole.metrics == resumed.metrics and whole.metrics["accuracy"] > 0.3


def test_what_evaluation_finds(run):
    opened = runs.open_run(run[0], "latest")
    found = opened.task.evaluate_more(opened.state, "test")
    json.dumps(found, allow_nan=False)
    ours, chance, *rivals = found["accuracy"]
    assert ours["model"] == "NeuroGraph" and ours["95 %"][0] < ours["accuracy"] < ours["95 %"][1]
    assert chance["accuracy"] < 0.2 < 0.6 < min(row["accuracy"] for row in rivals[:2])
    assert [row["model"].split()[0] for row in rivals] == ["logistic", "MLP", "1-bit"]
    confusion = np.array([[row[f"as {i}"] for i in range(10)] for row in found["confusion"]])
    labels = opened.task.source.labels("test")
    np.testing.assert_array_equal(confusion.sum(1), np.bincount(labels, minlength=10))
    assert confusion.trace() / confusion.sum() == ours["accuracy"]
    assert sum(row["rows"] for row in found["calibration"]) == 360
    gaps = [row["rows"] * abs(row["accuracy"] - row["mean"]) for row in found["calibration"]]
    assert found["expected calibration error"] == pytest.approx(sum(gaps) / 360)
    export = found["integer export"]
    assert export["same class"] == export["same scores"] == export["images"] == 360


def test_the_exported_file_needs_numpy_alone(run, tmp_path, capsys):
    target = tmp_path / "graph.npz"
    convert.main(["neurograph", "--integer", str(run[0]), str(target)])
    assert f"{target.stat().st_size:,} bytes" in capsys.readouterr().out
    opened = runs.open_run(run[0])
    pixels = opened.task.source.pixels("test")
    scores = jax.jit(opened.task.inner.predict)(opened.state.params, pixels)
    np.testing.assert_array_equal(read_model(target).scores(pixels), scores)
    code = "import sys, jaxgraph.neurograph.export; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_tuner_runs_from_the_command_line(tmp_path, capsys):
    arguments = ["--config", SMOKE, "--out", str(tmp_path), "--steps", "3", "--population", "2",
                 "--generations", "1", *OPTIONS[:5]]  # fmt: skip
    tune.main(arguments)
    first = capsys.readouterr().out
    assert "--task.learning.optim.lr" in first
    tune.main(arguments)
    assert capsys.readouterr().out in first  # nothing left to do


def test_the_faithful_mode_is_one_option_away():
    small = ["--task.faithful.graph.nodes", "30", "--task.faithful.graph.inputs", "8"]
    config = configs.load(["--config", SMOKE, "--task.mode", "faithful", *small])
    task = make_task(config)
    assert "30 nodes" in task.describe()["graph"]
