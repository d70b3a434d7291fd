"""How large a batch fits: bytes of a compiled step, and of the memory that is free."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxgraph.errors import UserError
from jaxgraph.train.task import Batch, Batches

LARGEST = 512
KEPT_FREE = 0.1
"""Share of the free memory that is left alone."""


def step_bytes(step: Callable[..., Any], state: Any, frozen: Any, batch: Any, rows: int) -> int:
    """Bytes that a step with donated state needs on its device, by the compiler's own account.

    Nothing is run.

    Args:
      state, frozen, batch: arrays or their shapes; the batch may have any number of rows.
      rows: of the batch that is asked about.
    """
    shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)  # noqa: E731
    wide = jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), batch)
    args = jax.tree.map(shape, state), jax.tree.map(shape, frozen), wide
    found = jax.jit(step, donate_argnums=0).lower(*args).compile().memory_analysis()
    own = found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes
    return own - found.alias_size_in_bytes


def widest(batches: Batches, count: int) -> Batch:
    """Of the first `count` batches the one of most bytes."""
    first = (batches[i] for i in range(count))
    return max(first, key=lambda batch: sum(x.nbytes for x in batch.values()))


def largest_batch(bytes_of: Callable[[int], int], free: int) -> tuple[int, int]:
    """The largest power of two rows, up to `LARGEST`, whose step fits, and the bytes of that step.

    Bytes grow by a constant with each row: two sizes tell about where, and then each is asked.

    Raises:
      UserError: not even one row fits.
    """
    room = (1 - KEPT_FREE) * free
    small, large = bytes_of(4), bytes_of(8)
    each = max((large - small) / 4, 1.0)
    guess = max((room - (small - 4 * each)) / each, 1.0)
    rows = min(LARGEST, 2 ** int(guess).bit_length())
    while rows >= 1:
        needed = bytes_of(rows)
        if needed <= room:
            return rows, needed
        rows //= 2
    raise UserError(
        f"one row needs {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; take a "
        "smaller model or shorter rows"
    )


def free_bytes() -> int:
    """Of the first device's memory; on CPUs, of the machine's."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    meminfo = Path("/proc/meminfo").read_text(encoding="utf-8")
    return 1024 * int(meminfo.split("MemAvailable:")[1].split()[0])
