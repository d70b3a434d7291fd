"""What compiled programs send between devices, and what XLA warns of while it makes them."""

import math
import re
from contextlib import contextmanager

import jax
import numpy as np
import pytest

from jaxgraph.nn import across
from jaxgraph.train import placement
from jaxgraph.train.config import Parallel
from jaxgraph.train.runner import make_runner
from jaxgraph.train.state import count_params
from tests.parallel import systems

REMADE = "Involuntary full rematerialization"
SENT = re.compile(r"= (.*?) (all-reduce|all-gather|all-to-all|reduce-scatter)(?:-start)?\(")


def compiled(name, parallel):
    runner = make_runner(systems.task(name), parallel, rows=systems.ROWS)
    batch = runner.place(systems.batches(name)[0])
    return runner._step.lower(runner.template(), runner.frozen, batch).compile(), runner


def sent(program):
    """Numbers that a program's collectives give, by kind; what stands in a loop counts once."""
    found = {}
    for shapes, kind in SENT.findall(program.as_text()):
        count = sum(
            math.prod(int(size) for size in sizes.split(",") if size)
            for sizes in re.findall(r"\w+\[([\d,]*)\]", shapes)
        )
        found[kind] = found.get(kind, 0) + count
    return found


@contextmanager
def without_cache():
    """A program out of the cache would warn of nothing."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)


@pytest.mark.parametrize("parallel", [Parallel("pmap", data=8), Parallel(data=8)])
def test_each_gradient_is_summed_over_devices_once(parallel):
    program, runner = compiled("vae", parallel)
    numbers = sent(program)
    params = count_params(runner.shapes.params)
    assert params <= numbers.pop("all-reduce") < 1.2 * params
    # Labels and noise are each device's own.
    assert sum(numbers.values()) < 0.1 * params


def test_parameters_that_are_shared_out_are_collected_once(monkeypatch):
    monkeypatch.setattr(placement, "SMALL", 64)
    program, runner = compiled("vae", Parallel(data=8, fsdp=True))
    pairs = zip(*map(jax.tree.leaves, (runner.shapes.params, runner.sharding.params)), strict=True)
    shared = sum(leaf.size for leaf, where in pairs if not where.is_fully_replicated)
    assert shared > 1000
    assert shared <= sent(program)["all-gather"] < 1.2 * shared + 1024


def test_experts_exchange_rows_and_xla_need_not_remake_anything(capfd):
    parallel = Parallel(data=2, expert=4)
    with without_cache():
        program, _ = compiled("moe", parallel)
    assert REMADE not in capfd.readouterr().err
    assert "all-to-all" in sent(program)


@pytest.mark.slow
def test_without_directions_xla_remakes_whole_arrays(capfd, monkeypatch):
    """So the test above can fail."""
    monkeypatch.setattr(across, "_lay", lambda x, spec: x)
    with without_cache():
        compiled("moe", Parallel(data=2, expert=4))
    assert REMADE in capfd.readouterr().err


def test_rows_of_a_batch_are_placed_without_a_detour():
    """One transfer, and no program that cuts a global array on the host."""
    runner = make_runner(systems.task("vae"), Parallel(data=8), rows=systems.ROWS)
    batch = systems.batches("vae")[0]
    with jax.transfer_guard_device_to_host("disallow"):
        placed = runner.place(batch)
        for shard in placed["bits"].addressable_shards:
            assert shard.data.shape[0] == 1
    np.testing.assert_array_equal(placed["bits"], batch["bits"])
