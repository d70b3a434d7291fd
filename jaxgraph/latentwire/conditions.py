"""Ways to tell a model a text, and the controls of a wire."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from jaxgraph.latentwire.adapter import calibrate
from jaxgraph.latentwire.hearer import Before, Frozen
from jaxgraph.latentwire.modules import Modules
from jaxgraph.latentwire.wire import diversity, quantise
from jaxgraph.nn.losses import cross_entropy


class Told(struct.PyTreeNode):
    """What stands in front of the answers of a block, and what the model then thinks of them."""

    way: str = struct.field(pytree_node=False)
    """How the text is told."""
    before: Before
    scores: Any
    """By name, each ``[b]``: `nll`, `tokens`, `right`, `first`."""


def tell_all(
    modules: Modules,
    name: str,
    bits: int,
    sizes: Sequence[int],
    params: Any,
    frozen: Frozen,
    block: Mapping[str, Any],
) -> tuple[list[Told], Float[Array, ""]]:
    """Every way to tell one model a block of texts, and how far their wires are apart.

    Args:
      bits: of a number of the quantised wire.
      sizes: numbers of slots, the largest all there are; of fewer only the first are heard.
    """
    hearer, own = modules.hearers[name], block[name]
    z = modules.encode(params, block).of(name)
    told = []
    for way, before in _ways(modules, name, bits, sizes, params, frozen, own, z):
        logits = hearer.answer_logits(frozen, before, own["answer"], own["answer_mask"])
        real = own["answer_mask"]
        right = jnp.equal(logits.argmax(-1), own["answer"]) & real
        nll = jnp.where(real, cross_entropy(logits, own["answer"]), 0.0)
        scores = {
            "nll": nll.sum(1), "tokens": real.sum(1), "right": right.sum(1),
            "first": right[:, 0] * 1.0,
        }  # fmt: skip
        told.append(Told(way, before, scores))
    return told, diversity(z, block["mask"] > 0)


def _ways(
    modules: Modules, name: str, bits: int, sizes: Sequence[int], params: Any,
    frozen: Frozen, own: Mapping[str, Any], z: Float[Array, "b m d"],
) -> Iterator[tuple[str, Before]]:  # fmt: skip
    hearer = modules.hearers[name]
    behind = len(hearer.between)
    text, short = (hearer.embed(frozen, own[key]) for key in ("text", "short"))

    def hear(z: Any, count: int | None = None) -> Before:
        return modules.hear(params, frozen, name, z, count)

    yield "text", Before(text, own["text_mask"])
    yield "wire", hear(z)
    if bits < 16:
        yield f"wire at {bits} bits", hear(quantise(z, bits))
    yield "another text's wire", hear(jnp.roll(z, 1, axis=0))
    for count in sorted(sizes, reverse=True):
        if count < max(sizes):
            yield f"wire, first slots: {count}", hear(z, count)
        first = first_tokens(own["short_mask"], count, behind)
        yield f"text cut to tokens: {count}", Before(short, first)
        means = calibrate(pooled(text, own["text_mask"], count, behind), frozen.rms)
        yield f"mean embeddings in slots: {count}", hearer.compose(frozen, means)
    yield "nothing", hearer.nothing(frozen, len(z))


def first_tokens(mask: Bool[Array, "b t"], count: int, behind: int) -> Bool[Array, "b t"]:
    """Hides all but each row's first tokens, and the last `behind`, which are no text."""
    place, length = jnp.cumsum(mask, axis=1) - 1, mask.sum(1, keepdims=True)
    return mask & ((place < count) | (place >= length - behind))


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
