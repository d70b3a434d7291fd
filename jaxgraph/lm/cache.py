"""Keys and values that queries may see besides those of their own pass."""

from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int


class KeyValues(struct.PyTreeNode):
    """Keys and values of every layer, as attention reads them: keys are already rotated.

    They may come from an earlier pass (`Output.key_values`) or from a generator of prefixes
    (spec/latentwire.md, section 4), which applies no rotation.
    """

    keys: Any
    """[l b g s k]"""
    values: Any
    """[l b g s k]"""
    mask: Any
    """Bool [b s]: slots that may be seen."""

    @property
    def length(self) -> int:
        return self.keys.shape[3]

    def extended(self, slots: int) -> "KeyValues":
        """With so many empty slots behind."""
        room = [(0, 0)] * 3 + [(0, slots), (0, 0)]
        return KeyValues(
            jnp.pad(self.keys, room),
            jnp.pad(self.values, room),
            jnp.pad(self.mask, [(0, 0), (0, slots)]),
        )


def past_of(
    keys: Float[Array, "l b g s k"],
    values: Float[Array, "l b g s k"],
    mask: Bool[Array, "b s"] | None = None,
) -> KeyValues:
    """Key-value prefixes as a past; without a mask all of it is seen."""
    if mask is None:
        mask = jnp.ones((keys.shape[1], keys.shape[3]), bool)
    return KeyValues(keys, values, mask)


def join(first: KeyValues, second: KeyValues) -> KeyValues:
    """One past behind the other."""
    return KeyValues(
        jnp.concatenate([first.keys, second.keys], axis=3),
        jnp.concatenate([first.values, second.values], axis=3),
        jnp.concatenate([first.mask, second.mask], axis=1),
    )


def positions_of(mask: Bool[Array, "b t"]) -> Int[Array, "b t"]:
    """Position of each token among its row's real ones, from 0: the same on either side of padding.

    Padding gets the position of a neighbour, which nothing reads.
    """
    return jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)
