"""What changes from step to step, and all that a checkpoint holds."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


class TrainState(struct.PyTreeNode):
    """A pytree of arrays and nothing else: functions inside would retrace.

    Fields are `Any` because JAX rebuilds pytrees around things that are no arrays.
    """

    step: Any
    """Optimiser steps done, int32 scalar."""
    params: Any
    """What the optimiser changes."""
    opt_state: Any
    extra: Any
    """What the model changes without gradients (ghosts, activation tables)."""
    key: Any
    """Root of all randomness of the run; step i uses `fold_in(key, i)`."""


def new_state(params: Any, opt_state: Any, extra: Any, key: Any) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state, extra, key)


def count_params(params: Any) -> int:
    """Numbers in a parameter tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
