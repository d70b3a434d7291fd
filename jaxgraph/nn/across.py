"""Batches that several devices share: sums, rows and random numbers over all of them.

Under `jit` an array is whole, however it is sharded, and nothing here does anything. Where a step
is mapped over an axis named `data`, by `pmap` or `shard_map`, its functions see the rows of one
device. What they take over all rows of the batch must then go through here; a mean over real items
that `train.step` weighs by their number need not.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Key

AXIS = "data"
EXPERTS = "expert"
"""Axis of a mesh whose devices share out stacked experts."""


def is_mapped() -> bool:
    """Whether the function being traced sees the rows of one device only."""
    try:
        jax.lax.axis_size(AXIS)
    except NameError:
        return False
    return True


def devices() -> int:
    """Devices over which the function is mapped; 1 where it is not."""
    return jax.lax.axis_size(AXIS) if is_mapped() else 1


def total(tree: Any) -> Any:
    """Sums over all devices of sums over this one's rows."""
    return jax.lax.psum(tree, AXIS) if is_mapped() else tree


def mean(tree: Any) -> Any:
    """Means over all devices."""
    return jax.lax.pmean(tree, AXIS) if is_mapped() else tree


def gather(tree: Any) -> Any:
    """All devices' rows in the order of the batch: leading axes times the number of devices."""
    if not is_mapped():
        return tree
    return jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, tiled=True), tree)


def draw(
    sample: Callable[[Any, tuple[int, ...]], Array], key: Key[Array, ""], shape: tuple[int, ...]
) -> Array:
    """`sample(key, shape)`, where the leading axis of the shape runs over rows of the batch.

    A mapped function gets its own rows of what one device would draw for the whole batch, so that
    runs do not depend on how many devices there are. Each device draws all of it.
    """
    if not is_mapped():
        return sample(key, shape)
    own = shape[0]
    whole = sample(key, (own * devices(), *shape[1:]))
    return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index(AXIS) * own, own)


def alike(tree: Any) -> Any:
    """Under `shard_map`: each leaf as one copy per device that any of them differs on.

    A gradient by hand must differ where its argument does; JAX sums it where the copies begin.
    """
    varying = lambda leaf: jax.typeof(leaf).manual_axis_type.varying  # noqa: E731
    axes = frozenset().union(*map(varying, jax.tree.leaves(tree)))

    def vary(leaf):
        new = tuple(axes - varying(leaf))
        return jax.lax.pcast(leaf, new, to="varying") if new else leaf

    return jax.tree.map(vary, tree)


def sharing() -> int:
    """Devices of the mesh that share the rows of an array which `jit` sees whole; 1 elsewhere."""
    shape = {} if is_mapped() else jax.sharding.get_abstract_mesh().shape
    return shape.get(AXIS, 1) * shape.get(EXPERTS, 1)


def to_experts(x: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
    """Rows where the experts are that will read them: on each device of a group those of all its
    devices. Nothing changes where a mesh shares out no experts."""
    return _lay(x, PartitionSpec(AXIS))


def from_experts(outputs: Float[Array, "e b ..."]) -> Float[Array, "e b ..."]:
    """Outputs of all experts back where their rows were: an all-to-all within each group."""
    outputs = _lay(outputs, PartitionSpec(EXPERTS, AXIS))
    return _lay(outputs, PartitionSpec(None, (AXIS, EXPERTS)))


def _lay(x: Array, spec: PartitionSpec) -> Array:
    # Left to itself, XLA moves whole activations in the backward pass.
    if jax.sharding.get_abstract_mesh().shape.get(EXPERTS, 1) == 1:
        return x
    return jax.lax.with_sharding_constraint(x, spec)
