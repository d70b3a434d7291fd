"""Devices: the mesh, where state and batches live on it, the compile cache."""

from pathlib import Path
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxgraph.errors import UserError
from jaxgraph.train.config import Parallel


def make_mesh(config: Parallel) -> Mesh:
    """A mesh with one axis, `data`.

    Raises:
      UserError: more devices are asked for than there are.
    """
    devices = jax.devices()
    count = len(devices) if config.data == -1 else config.data
    if count > len(devices):
        raise UserError(
            f"parallel.data: {count} devices asked for, {len(devices)} "
            f"{devices[0].platform} device(s) here; allowed: -1 (all) or 1 to {len(devices)}"
        )
    # Auto axes: the mesh would otherwise demand sharding annotations inside models.
    return jax.make_mesh(
        (count,), ("data",), devices=devices[:count], axis_types=(AxisType.Auto,)
    )


def state_sharding(mesh: Mesh, shapes: Any) -> Any:
    """Every leaf of the state on every device."""
    return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), shapes)


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Arrays placed whole on every device, once; those that are there stay where they are."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def batch_sharding(mesh: Mesh, rows: int, *, stacked: bool = False) -> NamedSharding:
    """Rows of a batch spread over `data`; `stacked` batches have a leading step axis.

    Raises:
      UserError: the rows do not divide by the devices.
    """
    count = mesh.shape["data"]
    if rows % count:
        raise UserError(
            f"a batch of {rows} rows does not divide by {count} devices; change "
            f"task.data.batch_size to a multiple of {count}, or parallel.data"
        )
    return NamedSharding(mesh, PartitionSpec(None, "data") if stacked else PartitionSpec("data"))


def use_compile_cache(folder: Path) -> None:
    """Keeps compiled programs in `folder`, however quick they were to compile."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
