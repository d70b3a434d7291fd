"""Scripts as a user runs them: train, stop, go on, evaluate, generate; and their refusals."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxgraph import runs
from tests.train import toy

ROOT = Path(__file__).parent.parent.parent
TINY = [
    "--config", "configs/smoke/moe.yaml", "--task.model.width", "16",
    "--task.model.num_layers", "1",
    "--task.data.batch_size", "4", "--train.steps", "60", "--train.eval_every", "20",
    "--train.save_every", "20", "--train.log_every", "1", "--train.eval_batches", "2",
    "--task.sampling.tokens", "8", "--task.model.ghosts.window", "10",
    "--task.model.ghosts.threshold", "0.3",
]


@pytest.fixture(scope="module")
def environment():
    return os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def script(environment):
    def run(name, *args, code=0):
        done = subprocess.run(
            [sys.executable, f"scripts/{name}.py", *args], cwd=ROOT, env=environment, timeout=280,
            capture_output=True, text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    return run


def train_args(folder, *more):
    return [*TINY, "--workdir", str(folder), "--train.compile_cache", "false", *more]


@pytest.fixture(scope="module")
def whole(script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, script("train", *train_args(folder))


def test_a_run_prints_what_it_learned(whole):
    folder, text = whole
    assert "text: sample" in text and "public domain" in text
    final = float(re.search(r"^validation loss: ([\d.]+)", text, re.M)[1])
    unigram = float(re.search(r"unigram entropy: ([\d.]+)", text)[1])
    assert 0 < final < 5.6 and 3 < unigram < 3.5
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in trained] == list(range(1, 61))
    assert trained[-1]["train/ghosts/awake"] > 0
    for name in ("config.yaml", "tokenizer.json", "tensorboard", "checkpoints"):
        assert (folder / name).exists(), name


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_a_stopped_or_killed_run_ends_with_the_same_bits(
    whole, script, environment, tmp_path, number
):
    folder = tmp_path / "stopped"
    process = subprocess.Popen(
        [sys.executable, "scripts/train.py", *train_args(folder)], cwd=ROOT, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    for line in process.stdout:
        if re.match(r"step +3\d/", line):
            process.send_signal(number)
            break
    rest = process.communicate(timeout=120)[0]
    assert process.returncode == (0 if number == signal.SIGTERM else -9), rest
    text = script("train", *train_args(folder))
    resumed = int(re.search(r"resumed at step (\d+)", text)[1])
    assert (30 <= resumed < 60) if number == signal.SIGTERM else resumed == 20
    first, second = (runs.open_run(path, "latest") for path in (whole[0], folder))
    assert first.step == second.step == 60 and toy.same(first.state, second.state)


def test_evaluate_and_generate_open_the_run(whole, script):
    folder, text = whole
    found = json.loads(script("evaluate", "--workdir", str(folder), "--split", "test", "--json"))
    assert found["split"] == "test" and found["step"] in (20, 40, 60)
    assert set(found["metrics"]) == {"loss", "perplexity", "bits_per_byte"}
    assert found["baselines"]["unigram entropy"] > 0
    options = ["--workdir", str(folder), "--prompt", "To be", "--tokens", "12"]
    first, again = script("generate", *options), script("generate", *options)
    assert first == again and first.startswith("To be") and len(first) > 8
    assert script("generate", *options, "--seed", "5") != first


def test_plot_draws_what_the_run_logged(whole, script):
    folder = whole[0]
    text = script("plot", str(folder))
    drawn = int(re.search(r"^(\d+) figures: ", text, re.M)[1])
    names = {path.stem for path in (folder / "report").glob("*.png")}
    assert drawn == len(names) and {
        "loss", "perplexity", "expert_load", "expert_load_correlation", "expert_similarity",
        "expert_connections", "ghost_timeline", "saturation_phase",
    } <= names
    # What the run did not do is named: it has no rotations.
    assert "left out: Rotation angles of each expert (not logged: " in text
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == drawn and "baseline/unigram_entropy" in page


def test_refusals_name_the_culprit_and_end_with_code_2(whole, script, tmp_path):
    folder = str(whole[0])
    message = script("train", *train_args(folder, "--task.model.num_experts", "3"), code=2)
    assert "task.model.num_experts: 4 -> 3" in message and "--workdir" in message
    assert "positions" in script(
        "generate", "--workdir", folder, "--prompt", "x" * 99, "--tokens", "5", code=2
    )
    assert "allowed: best, latest" in script("evaluate", "--workdir", folder, "--step", "7", code=2)
    missing = script("evaluate", "--workdir", str(tmp_path / "none"), code=2)
    assert "holds no checkpoint" in missing
    text = script("train", *train_args(tmp_path / "b", "--task.data.source", "nowhere.txt"), code=2)
    assert "nowhere.txt" in text
