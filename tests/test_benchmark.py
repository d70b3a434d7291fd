"""The benchmark command: its report, its refusals, its count of FLOPs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

ROOT = Path(__file__).parent.parent
NUMBERS = {"ours_ms", "per_second", "ours_peak_mb", "compile_s"}
OF_REFERENCE = {"reference_ms", "reference_peak_mb", "ratio"}


def benchmark(*arguments, **variables):
    """Runs the command as a user would."""
    return subprocess.run(
        [sys.executable, "scripts/benchmark.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def rates(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from bench import rates

    return rates


@pytest.mark.multiprocess
@pytest.mark.slow
def test_report(tmp_path):
    path = tmp_path / "report.json"
    done = benchmark("moe", "--quick", "--json", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(path.read_text())
    assert report["system"] == "moe"
    assert {"cpu", "cores", "threads", "versions", "load_average"} <= report["machine"].keys()
    matched, unmatched = report["rows"]

    assert matched["name"] == "hgnn train 8"
    assert all(matched[name] > 0 for name in NUMBERS | OF_REFERENCE)
    assert matched["ratio"] == pytest.approx(matched["reference_ms"] / matched["ours_ms"])
    assert matched["per_second"] == pytest.approx(2 * 8 * 1000 / matched["ours_ms"])
    for side in ("ours", "reference"):
        assert matched[f"{side}_min_ms"] <= matched[f"{side}_ms"] <= matched[f"{side}_max_ms"]
    # Steps did something, and the same on both sides.
    assert matched["loss_after"][0] < matched["loss_before"][0] - 1e-3
    assert matched["loss_before"][0] == pytest.approx(matched["loss_before"][1], abs=1e-4)

    assert all(unmatched[name] > 0 for name in NUMBERS)
    assert all(unmatched[name] is None for name in OF_REFERENCE)
    assert "no weighted hypergraph operator" in unmatched["note"]
    assert unmatched["rival"] == "gnn train 8"
    assert unmatched["rival_times"] == pytest.approx(unmatched["ours_ms"] / unmatched["rival_ms"])
    assert "x gnn train 8" in done.stdout
    for row in report["rows"]:
        assert row["name"] in done.stdout


@pytest.mark.multiprocess
@pytest.mark.parametrize(("broken", "task"), [
    ("weights", "forward"), pytest.param("step", "train", marks=pytest.mark.slow),
])
def test_a_reference_that_does_other_work_is_refused(tmp_path, broken, task):
    path = tmp_path / "report.json"
    done = benchmark(
        "moe", "--quick", "--modes", "ghost_awake", "--passes", task, "--json", str(path),
        JAXGRAPH_BENCHMARK_BREAK=broken,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    [row] = json.loads(path.read_text())["rows"]
    assert "different work is not compared" in row["error"]
    assert all(row[name] is None for name in NUMBERS | OF_REFERENCE)


@pytest.mark.multiprocess
@pytest.mark.slow
def test_steps_of_the_vae(tmp_path):
    path = tmp_path / "report.json"
    done = benchmark("vae", "--quick", "--json", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in rows] == ["complex 8 original", "complex 8 one_pass"]
    for row in rows:
        assert all(row[name] > 0 for name in NUMBERS | OF_REFERENCE)
        assert row["per_second"] == pytest.approx(8 * 1000 / row["ours_ms"])
        assert row["loss_after"][0] < row["loss_before"][0] - 0.1
        assert row["loss_before"][0] == pytest.approx(row["loss_before"][1], abs=1e-4)


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("broken", ["weights", "step"])
def test_a_vae_reference_that_does_other_work_is_refused(tmp_path, broken):
    path = tmp_path / "report.json"
    done = benchmark(
        "vae", "--quick", "--references", "original", "--json", str(path),
        JAXGRAPH_BENCHMARK_BREAK=broken,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    [row] = json.loads(path.read_text())["rows"]
    assert "different work is not compared" in row["error"]


@pytest.mark.multiprocess
def test_samples_of_neurograph(tmp_path):
    path = tmp_path / "report.json"
    works = "faithful_train,learning_train"
    done = benchmark("neurograph", "--quick", "--works", works, "--json", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    faithful, learning = json.loads(path.read_text())["rows"]
    assert faithful["name"] == "faithful_train 40 nodes"
    assert all(faithful[name] > 0 for name in NUMBERS | OF_REFERENCE)
    assert faithful["per_second"] == pytest.approx(1000 / faithful["ours_ms"])
    assert faithful["loss_before"][0] == pytest.approx(faithful["loss_before"][1], abs=1e-4)
    assert learning["name"] == "learning_train real 8"
    assert learning["note"] == "the original has no learning mode"
    assert learning["per_second"] == pytest.approx(8 * 1000 / learning["ours_ms"])
    # It trains: on random labels, so not for the better.
    assert learning["loss_after"][0] != learning["loss_before"][0]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "system"),
        (["vea"], "unknown 'vea'; allowed: latentwire, moe, neurograph, vae"),
        (["neurograph", "--works", "learn"], "allowed: faithful_train, faithful_forward, learning"),
        (["vae", "--tokens", "128"], "unrecognized arguments: --tokens"),
        (["vae", "--kinds", "real,quaternion"], "unknown 'quaternion'; allowed: real, complex"),
        (["moe", "--modes", "gnn,router"], "unknown 'router'; allowed: gnn, hgnn"),
        (["moe", "--passes", "backward"], "allowed: train, forward"),
        (["moe", "--tokens", "128,"], "'' is not a count"),
        (["moe", "--tokens", "0"], "'0' is not a count"),
        (["moe", "--repeats", "-1"], "--repeats"),
        (["moe", "--threads", "100000"], "100000 is above"),
        (["moe", "--dropout", "nan"], "'nan' is not a share"),
        (["moe", "--json", "/no/such/folder/x.json"], "/no/such/folder"),
    ],
)
def test_wrong_arguments(arguments, part):
    done = benchmark(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and part in done.stderr
    assert "Traceback" not in done.stderr


def test_flops_count_loops_and_the_branch_that_runs(rates):
    def program(x, flag):
        looped = jax.lax.map(jax.checkpoint(lambda row: row @ x[0]), x)
        return jax.lax.cond(flag, lambda y: jax.vmap(jnp.matmul)(y, y), lambda y: y, looped)

    jaxpr = jax.make_jaxpr(jax.jit(program))(jnp.ones((5, 4, 4)), True).jaxpr
    one = 2 * 4 * 4 * 4
    assert rates.matmul_flops(jaxpr, min) == 5 * one
    assert rates.matmul_flops(jaxpr, max) == 10 * one


def test_flops_in_a_loop_of_unknown_length_are_refused(rates):
    def program(x):
        return jax.lax.while_loop(lambda y: y[0, 0] < 9, lambda y: y @ y, x)

    with pytest.raises(ValueError, match="trip count"):
        rates.matmul_flops(jax.make_jaxpr(program)(jnp.ones((2, 2))).jaxpr, max)


def test_mfu_is_only_given_for_cards_whose_peak_is_known(rates):
    assert rates.utilisation("NVIDIA H200", "bfloat16", 989e9, 10) == pytest.approx(0.1)
    assert rates.utilisation("NVIDIA H300", "bfloat16", 989e9, 10) is None


def test_real_configs_ask_for_a_gpu():
    done = benchmark("gpu", JAX_PLATFORMS="cpu")
    assert done.returncode == 2 and done.stdout == ""
    assert "no GPU: JAX sees cpu here" in done.stderr and "make bench" in done.stderr


def test_a_real_config_is_measured(rates):
    """On a CPU, for what is no number of a GPU."""
    from bench import real

    row = real.measure("configs/smoke/vae.yaml", 4, [
        "--parallel.data", "1", "--task.data.per_class", "40", "--task.data.bits", "16",
        "--task.data.batch_size", "8", "--train.steps_per_call", "2", "--train.steps", "4",
        "--train.eval_every", "4", "--train.save_every", "4", "--task.model.num_layers", "1",
    ])  # fmt: skip
    assert row["step_ms"] > 0 and row["mfu"] is None and row["devices"] == "1 x cpu"
    assert row["items_per_second"] == pytest.approx(8 / row["step_ms"] * 1000)
    assert 0 < row["step_tflop"] < 1e-3
    assert real.as_line(row).startswith("vae ")
