"""Devices: the mesh, what lies where on it, the compile cache."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxgraph.errors import UserError
from jaxgraph.train.config import Parallel

ROWS = ("data", "expert")
"""Mesh axes over which the rows of a batch are spread."""


def make_mesh(config: Parallel) -> Mesh:
    """A mesh with the axes `data` and `expert`.

    Raises:
      UserError: more devices are asked for than there are, or some process would have none.
    """
    devices = jax.devices()
    there = f"{len(devices)} {devices[0].platform} device(s) here"
    expert = config.expert if config.expert > 0 else max(len(devices) // config.data, 1)
    data = config.data if config.data > 0 else len(devices) // expert
    count = data * expert
    if not count or count > len(devices):
        key = "expert" if expert > 1 else "data"
        raise UserError(
            f"parallel.{key}: {max(count, expert)} devices asked for, {there}; "
            f"allowed: -1 (all) or 1 to {len(devices)}"
        )
    if jax.process_count() > 1 and count < len(devices):
        raise UserError(
            f"parallel.data: {count} devices asked for, {there}; allowed with several processes: "
            "all of them (-1)"
        )
    # Auto axes: the mesh would otherwise demand sharding annotations inside models.
    return jax.make_mesh(
        (data, expert), ROWS, devices=devices[:count], axis_types=(AxisType.Auto,) * 2
    )


def whole(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, rows: int, *, stacked: bool = False) -> NamedSharding:
    """Rows of a batch spread over all devices; `stacked` batches have a leading step axis.

    Raises:
      UserError: the rows do not divide by the devices.
    """
    if rows % mesh.size:
        raise UserError(
            f"a batch of {rows} rows does not divide by {mesh.size} devices; change "
            f"task.data.batch_size to a multiple of {mesh.size}, or parallel.data"
        )
    return NamedSharding(mesh, PartitionSpec(None, ROWS) if stacked else PartitionSpec(ROWS))


def put(tree: Any, where: Any) -> Any:
    """Arrays on the devices of a sharding, or of a tree of them.

    All processes hold the same arrays; each places the parts of its own devices.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, where)

    def place(leaf, sharding):
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    if isinstance(where, jax.sharding.Sharding):
        return jax.tree.map(lambda leaf: place(leaf, where), tree)
    return jax.tree.map(place, tree, where)


def pad_rows(batch: Any, multiple: int) -> Any:
    """The batch with rows of zeros, which its mask leaves out, up to a multiple of rows."""
    rows = len(jax.tree.leaves(batch)[0])
    missing = -rows % multiple
    if not missing:
        return batch
    return jax.tree.map(
        lambda x: np.pad(x, [(0, missing)] + [(0, 0)] * (np.ndim(x) - 1)), batch
    )


def use_compile_cache(folder: Path) -> None:
    """Keeps compiled programs in `folder`, however quick they were to compile."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
