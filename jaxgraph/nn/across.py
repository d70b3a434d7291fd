"""Batches that several devices share: sums, rows and random numbers over all of them.

Under `jit` an array is whole, however it is sharded, and nothing here does anything. Where a step
is mapped over an axis named `data`, by `pmap` or `shard_map`, its functions see the rows of one
device. What they take over all rows of the batch must then go through here; a mean over real items
that `train.step` weighs by their number need not.
"""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Key

AXIS = "data"


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
