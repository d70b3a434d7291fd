"""A run that is stopped or killed goes on as if nothing had happened, bit for bit."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxgraph.train.metrics import read_rows
from jaxgraph.train.signals import StopSignal

STEPS = 40


def start(folder, seconds=0.05):
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.reliability.worker", str(folder), str(STEPS), str(seconds)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env,
    )


def wait_for_step(process, step, seen):
    """Reads the run's output until it has logged a step."""
    for line in process.stdout:
        seen.append(line)
        found = re.match(r"step +(\d+)/", line)
        if found and int(found[1]) >= step:
            return
    raise AssertionError(f"ended before step {step}:\n{''.join(seen)}")


def finish(folder):
    process = start(folder, seconds=0)
    text = process.communicate(timeout=240)[0]
    assert process.returncode == 0, text
    with np.load(folder / "final.npz") as found:
        return [found[name] for name in found.files], text


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("whole"))[0]


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_at_the_very_step_and_the_same_command_goes_on(
    tmp_path, undisturbed, number
):
    process, seen = start(tmp_path), []
    wait_for_step(process, random.randrange(3, 30), seen)
    process.send_signal(number)
    rest = process.communicate(timeout=120)[0]
    assert process.returncode == 0, rest
    stopped = int(re.search(r"saved at step (\d+)", rest)[1])
    assert str(stopped) in os.listdir(tmp_path / "checkpoints")
    found, text = finish(tmp_path)
    assert f"resumed at step {stopped}" in text
    assert equal(found, undisturbed)


def test_kill_loses_no_finished_checkpoint(tmp_path, undisturbed):
    process, seen = start(tmp_path), []
    wait_for_step(process, random.randrange(22, 30), seen)
    process.kill()
    process.communicate(timeout=60)
    found, text = finish(tmp_path)
    resumed = int(re.search(r"resumed at step (\d+)", text)[1])
    # The save at 20 may have been at work still; the one at 10 was finished before it.
    assert resumed in (10, 20)
    assert equal(found, undisturbed)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "train/loss" in row] == list(range(1, STEPS + 1))


def test_handlers_are_put_back_and_other_threads_do_without():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert stop.received is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(StopSignal().__enter__).result().received is None


def test_a_second_signal_ends_at_once(tmp_path):
    process = start(tmp_path, seconds=20)
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoints").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and time.monotonic() - begun < 5
