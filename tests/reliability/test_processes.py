"""Two processes on loopback: they agree, stop together, and end when one of them is lost."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxgraph.errors import UserError
from jaxgraph.train import processes
from jaxgraph.train.config import Parallel
from jaxgraph.train.metrics import read_rows
from tests.reliability.test_signals import equal, wait_for_step

pytestmark = pytest.mark.multiprocess
STEPS = 40


def free_port():
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return sock.getsockname()[1]


def start(folder, *options, seconds=0.0, steps=STEPS, count=2):
    port, env = free_port(), os.environ | {"JAX_PLATFORMS": "cpu"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.ranks", str(folder), str(steps),
             str(seconds), str(rank), str(count), str(port), *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env,
        )
        for rank in range(count)
    ]  # fmt: skip


def join(ranks, timeout=200):
    try:
        texts = [rank.communicate(timeout=timeout)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return texts, [rank.returncode for rank in ranks]


def finish(folder, *options, **how):
    texts, codes = join(start(folder, *options, **how))
    assert codes == [0, 0], "\n".join(texts)
    found = []
    for rank in (0, 1):
        with np.load(folder / f"final{rank}.npz") as file:
            found.append([file[name] for name in file.files])
    assert equal(*found)
    return found[0], texts


def test_a_run_that_finds_no_others_says_what_to_set(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="parallel.processes: cannot join.*\n.*JAX_PROCESS_ID"):
        with processes.together(Parallel(processes=0)):
            raise AssertionError("it has joined nobody")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return *finish(folder), folder


def test_the_first_process_alone_writes_and_prints(undisturbed):
    _, (first, second), folder = undisturbed
    assert "devices: 4 x" in first and "in 2 processes" in first
    assert "step" not in second, second
    rows = read_rows(folder / "metrics.jsonl")
    assert [row["step"] for row in rows if "train/loss" in row] == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_a_signal_to_one_saves_on_all_at_the_same_step_and_all_end_well(tmp_path, undisturbed):
    ranks, seen = start(tmp_path, seconds=0.05), []
    wait_for_step(ranks[0], 12, seen)
    ranks[1].send_signal(signal.SIGTERM)
    (first, _), codes = join(ranks)
    assert codes == [0, 0], first
    stopped = int(re.search(r"saved at step (\d+)", first)[1])
    assert str(stopped) in os.listdir(tmp_path / "checkpoints")
    found, (first, _) = finish(tmp_path)
    assert f"resumed at step {stopped}" in first
    assert equal(found, undisturbed[0])


@pytest.mark.slow
def test_after_a_kill_the_other_ends_and_both_go_on_bit_for_bit(tmp_path, undisturbed):
    ranks, seen = start(tmp_path, seconds=0.05), []
    wait_for_step(ranks[0], 24, seen)
    ranks[1].kill()
    begun = time.monotonic()
    (first, _), codes = join(ranks, timeout=60)
    assert codes[0] not in (0, None), first
    assert time.monotonic() - begun < 50
    found, (first, _) = finish(tmp_path)
    # The save at 20 may have been at work still; the one at 10 was finished before it.
    assert int(re.search(r"resumed at step (\d+)", first)[1]) in (10, 20)
    assert equal(found, undisturbed[0])
