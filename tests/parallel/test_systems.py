"""All four systems: the same run on one device, on a mesh of many, and under pmap."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxgraph.train.config import Parallel
from tests.parallel import systems
from tests.reliability.test_processes import free_port, join

ONE = Parallel(data=1)
KINDS = {
    "mesh 8": Parallel(data=8),
    "pmap 8": Parallel("pmap", data=8),
    "fsdp 8": Parallel(data=8, fsdp=True),
    "mesh 2": Parallel(data=2),
    "mesh 4": Parallel(data=4),
    "pmap 2": Parallel("pmap", data=2),
    "pmap 4": Parallel("pmap", data=4),
    "pmap 1": Parallel("pmap", data=1),
    "data 2, experts 4": Parallel(data=2, expert=4),
    "fsdp 4, experts 2": Parallel(data=4, expert=2, fsdp=True),
}
# Programs take seconds to compile; `pytest -m slow tests/parallel` runs all of them.
QUICK = [("vae", "pmap 8"), ("moe", "fsdp 4, experts 2")]
ALL = systems.NAMES + systems.SLOW_NAMES
SLOW = [(name, kind) for name in ALL for kind in KINDS if "experts" not in kind]
SLOW += [("moe", "data 2, experts 4"), ("ghosts", "fsdp 4, experts 2")]
CASES = QUICK + [
    pytest.param(*case, marks=pytest.mark.slow) for case in SLOW if case not in QUICK
]


def integers(state):
    return [np.asarray(x) for x in jax.tree.leaves(state.params) if x.dtype.kind in "iu"]


def check_histories(history, alone):
    assert alone[0]["loss"] != alone[-1]["loss"]
    for i, (one, many) in enumerate(zip(alone, history, strict=True)):
        np.testing.assert_allclose(many["loss"], one["loss"], rtol=1e-6, err_msg=f"step {i}")
        if "grad_norm" in one:
            np.testing.assert_allclose(many["grad_norm"], one["grad_norm"], rtol=1e-4)


@pytest.mark.parametrize("name, kind", CASES)
def test_same_run_as_on_one_device(name, kind):
    first, last, history, runner = systems.run(name, KINDS[kind])
    expected_first, expected, alone, _ = systems.run(name, ONE)
    assert runner.mesh.size == KINDS[kind].data * KINDS[kind].expert
    check_histories(history, alone)
    for a, b in zip(integers(last), integers(expected), strict=True):
        np.testing.assert_array_equal(a, b)
    # The first moments behind one step are the gradients times 1 - b1: compared directly.
    for a, b in zip(
        *(jax.tree.leaves((s.opt_state, s.extra)) for s in (first, expected_first)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)


@pytest.mark.multiprocess
@pytest.mark.parametrize("works", [
    pytest.param(("vae", "learning"), marks=pytest.mark.slow),
    pytest.param(("moe", "faithful", "latentwire", "learning:pmap"), marks=pytest.mark.slow),
])  # fmt: skip
def test_two_processes_run_as_one_device(tmp_path, works):
    """Several systems in one start of two processes, on a mesh or by pmap."""
    port, env = free_port(), os.environ | {"JAX_PLATFORMS": "cpu"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.parallel.ranks", str(tmp_path), str(rank), str(port),
             *works],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    texts, codes = join(ranks, timeout=400)
    assert codes == [0, 0], "\n".join(texts)
    for work in works:
        name = work.partition(":")[0]
        _, expected, alone, _ = systems.run(name, ONE)
        by_rank = [np.load(tmp_path / f"{work}-{rank}.npz") for rank in (0, 1)]
        for found in by_rank:
            check_histories(
                [{k: found[k][i] for k in ("loss", "grad_norm") if k in found.files}
                 for i in range(systems.STEPS)],
                alone,
            )  # fmt: skip
            for i, leaf in enumerate(integers(expected)):
                np.testing.assert_array_equal(found[f"integers_{i}"], leaf)
        assert all(np.array_equal(by_rank[0][k], by_rank[1][k]) for k in by_rank[0].files)
