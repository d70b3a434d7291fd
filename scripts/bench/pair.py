"""Measures one row: a fresh process for each side, checked for agreement, then run in turns."""

import contextlib
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench.machine import version
from bench.process import RowError, Worker
from bench.rates import utilisation
from bench.rows import Row

TOLERANCE = 1e-4
WARM_UP = 2
"""Calls before the measured ones: the first allocates, the second finds the memory warm."""


def measure(row: Row, repeats: int) -> dict[str, Any]:
    """The numbers of a row; without a like-for-like reference those of the reference are None.

    Raises:
      RowError: the sides disagree, or one of them failed.
    """
    if row.rival is not None:
        return measure_own(row, repeats)
    note = unmatched(row)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        modules = row.modules[: 1 if note else 2]
        workers = [stack.enter_context(Worker(module, row, folder)) for module in modules]
        for worker in workers:
            worker.send("hello")
        hello = [worker.receive() for worker in workers]
        if len(workers) == 2 and hello[0]["backend"] != hello[1]["backend"]:
            note = f"JAX is on {hello[0]['backend']}, and torch {version('torch')} is not"
            workers.pop().__exit__()
        weights = None
        if len(workers) == 2:
            weights = str(Path(folder, "weights.npz"))
            workers[1].ask("make", path=weights)
        workers[0].ask("load", path=weights)
        return {"note": note} | compare(row, workers, repeats, hello[0])


def measure_own(row: Row, repeats: int) -> dict[str, Any]:
    """The numbers of a row beside those of `row.rival`, other work of ours; in turns too.

    They compute different things: there is no agreement to check.
    """
    with contextlib.ExitStack() as stack:
        workers = []
        for each in (row, row.rival):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            workers.append(stack.enter_context(Worker(row.modules[0], each, folder)))
        device = [worker.ask("hello") for worker in workers][0]
        for worker in workers:
            worker.ask("load", path=None)
        warm = [worker.ask("warm_up", calls=WARM_UP) for worker in workers]
        times = [[worker.ask("run") for worker in workers] for _ in range(repeats)]
        ends = [worker.ask("finish") for worker in workers]
    own, rival = (
        summary(side, list(column), *rest)
        for side, column, *rest in zip(
            ("ours", "rival"), zip(*times, strict=True), warm, ends, strict=True
        )
    )
    return {
        **numbers(row, own, None, warm[0], ends[0], device),
        **rival,
        "note": unmatched(row),
        "rival": row.rival.name,
        "rival_times": own["ours_ms"] / rival["rival_ms"],
        "rival_times_peak": own["ours_peak_mb"] / rival["rival_peak_mb"],
    }


def unmatched(row: Row) -> str:
    """Why a row has no reference; empty if it has one."""
    return row.unmatched or ("" if version("torch") else "torch is not installed")


def compare(
    row: Row, workers: list[Worker], repeats: int, device: dict[str, str]
) -> dict[str, Any]:
    """Checks that the sides agree, runs them in turns, and checks that they still do."""
    before = agree(workers, TOLERANCE)
    warm = [worker.ask("warm_up", calls=WARM_UP) for worker in workers]
    times = [[worker.ask("run") for worker in workers] for _ in range(repeats)]
    # As many steps must have lowered the loss by as much; their dropout draws differ.
    learned = abs(before[0] - workers[0].ask("loss"))
    after = agree(workers, TOLERANCE + (row.drift * learned if row.trains else 0))
    ends = [worker.ask("finish") for worker in workers]
    # The reference's columns stand in every row, empty where it has none.
    columns = [list(column) for column in zip(*times, strict=True)] + [None]
    ours = summary("ours", columns[0], warm[0], ends[0])
    reference = summary("reference", columns[1], warm[-1], ends[-1])
    return {
        **numbers(row, ours, reference, warm[0], ends[0], device),
        "loss_before": before,
        "loss_after": after,
        "passes": [end.get("passes") for end in ends],
    }


def numbers(
    row: Row,
    ours: dict[str, Any],
    reference: dict[str, Any] | None,
    warm: dict[str, Any],
    end: dict[str, Any],
    device: dict[str, str],
) -> dict[str, Any]:
    """Every row's numbers, and what follows from them."""
    reference = reference or summary("reference", None, {}, {})
    ms, other = ours["ours_ms"], reference["reference_ms"]
    return {
        **ours,
        **reference,
        "ratio": None if other is None else other / ms,
        "per_second": 1000 * row.items / ms,
        "compile_s": warm["compile_s"],
        **gpu_rates(row, device, end, ms),
    }


def summary(
    side: str, times: list[float] | None, warm: dict[str, float], end: dict[str, float]
) -> dict[str, float | None]:
    """A side's numbers, by name; None throughout if it was not run."""
    values = {"ms": None, "min_ms": None, "max_ms": None}
    values |= {"peak_mb": None, "warm_up_s": None, "idle_cpu": None}
    if times:
        values = {
            "ms": statistics.median(times),
            "min_ms": min(times),
            "max_ms": max(times),
            "peak_mb": end["peak_mb"],
            "warm_up_s": warm["warm_up_s"],
            "idle_cpu": end["idle_cpu"],  # cores in use while the other side ran
        }
    return {f"{side}_{name}": value for name, value in values.items()}


def gpu_rates(
    row: Row, device: dict[str, str], end: dict[str, Any], ms: float
) -> dict[str, float | None]:
    """Shares of a GPU's peak; None on CPUs, whose peak we do not know."""
    gpu = device["backend"] == "gpu"
    return {
        "device": device["device"],
        "dtype": row.dtype,
        "flops": end["flops"],
        "mfu": utilisation(device["device"], row.dtype, end["flops"], ms) if gpu else None,
        # A lower bound: XLA counts the bytes of a loop's body once.
        "bytes_per_second": 1000 * end["bytes"] / ms if gpu and end["bytes"] else None,
    }


def agree(workers: list[Worker], tolerance: float) -> list[float]:
    """Losses of all sides on the same batch without dropout.

    Raises:
      RowError: they differ: then the sides do not do the same work.
    """
    losses = [worker.ask("loss") for worker in workers]
    if not max(losses) - min(losses) <= tolerance:  # NaN is refused too
        raise RowError(
            f"the sides disagree: loss {losses[0]:.6f} here and {losses[-1]:.6f} in the reference, "
            f"more than {tolerance:.1e} apart; different work is not compared"
        )
    return losses
