"""Where each array of a state lies on the mesh, by rules over paths."""

import math
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgraph.errors import UserError
from jaxgraph.train.optim import Rules, by_path, path_name

WHOLE, SPREAD, EXPERT = "whole", "spread", "expert"
"""Labels of rules: a copy on every device; shared out over all devices under `parallel.fsdp`; the
leading axis shared out over `expert`, and another over `data` under `parallel.fsdp`."""
DEFAULT: Rules = [("", SPREAD)]
SMALL = 1024
"""Numbers below which an array is never shared out under `fsdp`: collecting it would cost more than
a copy."""


def make_shardings(
    mesh: Mesh, tree: Any, rules: Rules = DEFAULT, *, fsdp: bool = False
) -> Any:
    """A `NamedSharding` for each leaf of a tree of arrays or shapes.

    Rules see paths such as `params/layer_0/experts/up/kernel`, and
    `opt_state/.../mu/layer_0/experts/up/kernel` of its moment: one rule serves both. Under `fsdp` a
    leaf is cut along the longest of its axes that divides by the devices.

    Raises:
      UserError: a leaf that no rule covers, or experts that do not divide.
    """
    labels = by_path(tree, rules)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf, label: NamedSharding(
            mesh, _spec(path_name(path), leaf.shape, label, mesh, fsdp)
        ),
        tree,
        labels,
    )


def bytes_by_device(shapes: Any, shardings: Any) -> int:
    """Bytes that each device holds of a tree of arrays or shapes."""

    def size(leaf, where):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return 0  # a few bytes, whose number the implementation keeps to itself
        return math.prod(where.shard_shape(leaf.shape)) * leaf.dtype.itemsize

    return sum(jax.tree.leaves(jax.tree.map(size, shapes, shardings)))


def _spec(
    name: str, shape: tuple[int, ...], label: str, mesh: Mesh, fsdp: bool
) -> PartitionSpec:
    axes: list[Any] = [None] * len(shape)
    experts, data, over = mesh.shape["expert"], mesh.shape["data"], "data"
    if label == EXPERT and experts > 1:
        if not shape or shape[0] % experts:
            raise UserError(
                f"parallel.expert: {name} {list(shape)} does not divide by {experts} devices; "
                "allowed: divisors of the number of experts"
            )
        axes[0] = "expert"
    elif experts > 1:
        data, over = data * experts, ("data", "expert")
    free = [i for i, axis in enumerate(axes) if axis is None and shape[i] % data == 0]
    if fsdp and data > 1 and label != WHOLE and math.prod(shape) >= SMALL and free:
        axes[max(free, key=lambda i: shape[i])] = over
    while axes and axes[-1] is None:
        axes.pop()
    return PartitionSpec(*axes)
