"""Ways to tell a model a text, and the controls of a wire."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

CONDITIONS = (
    "text", "wire", "quantised wire", "another text's wire", "text cut to the slots",
    "mean embeddings", "nothing",
)  # fmt: skip


class Told(struct.PyTreeNode):
    """What stands in front of the answers of a block, and what the model then thinks of them."""

    before: Any
    """[b t e]"""
    mask: Any
    """[b t]"""
    scores: Any
    """By name, each ``[b]``: `nll`, `tokens`, `right`, `first`."""


def pooled(
    vectors: Float[Array, "b t e"], mask: Bool[Array, "b t"], slots: int, behind: int
) -> Float[Array, "b m e"]:
    """Means of a text's embeddings over equal parts of it; of a text shorter than that the last
    parts are 0. The last `behind` vectors of each row are no text."""
    count = jnp.maximum(mask.sum(1, keepdims=True) - behind, 1)
    place = jnp.cumsum(mask, axis=1) - 1
    inside = mask & (place < count)
    span = -(-count // slots)
    which = jnp.where(inside, place // span, slots)
    member = jax.nn.one_hot(which, slots, dtype=vectors.dtype)
    total = jnp.einsum("btm,bte->bme", member, vectors)
    return total / jnp.maximum(member.sum(1), 1)[..., None]


def diversity(z: Float[Array, "b m d"]) -> Float[Array, ""]:
    """Mean distance of neighbouring rows' wires over the root of the mean square length: √2 for
    unrelated ones of mean 0, 0 where every text gets the same."""
    flat = z.reshape(len(z), -1)
    apart = jnp.linalg.norm(flat - jnp.roll(flat, 1, axis=0), axis=1).mean()
    return apart / jnp.sqrt(jnp.mean(jnp.sum(jnp.square(flat), axis=1)))
