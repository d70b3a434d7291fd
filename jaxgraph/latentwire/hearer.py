"""A frozen model that hears a wire: composed sequences, and the logits over answers."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.lm.cache import KeyValues, positions_of
from jaxgraph.lm.llama import Llama
from jaxgraph.lm.reading import Reading, hooks_of
from jaxgraph.nn import across


class Frozen(struct.PyTreeNode):
    """Arrays of one model that nothing changes."""

    lm: Any
    """Its parameters."""
    rms: Any
    """Root mean square of its embedding table."""
    mean: Any
    """[e]: the table's mean by coordinate."""
    deviation: Any
    """[e]: the table's standard deviation by coordinate."""


def freeze(params: Any) -> Frozen:
    """A model's parameters, and the statistics of the whole table, taken once."""
    table = params["embedding"].astype(jnp.float32)
    return Frozen(
        params,
        jnp.sqrt(jnp.mean(jnp.square(table))),
        jnp.mean(table, axis=0),
        jnp.std(table, axis=0, ddof=1),
    )


class Before(struct.PyTreeNode):
    """What stands in front of an answer."""

    vectors: Any
    """[b t e]"""
    mask: Any
    """Bool [b t]; the last ones are real."""
    past: KeyValues | None = None
    """Keys and values in front of the vectors."""
    reading: Reading | None = None
    """What layers read besides."""


@dataclass(frozen=True)
class Hearer:
    """One frozen model and what stands between soft prompt and answer."""

    model: Llama
    between: tuple[int, ...] = ()
    """Ids: BOS, anchor."""
    begin: int = 0
    """Id that texts of this model begin with; stands where there is nothing else."""
    begins_with_bos: bool = False
    """Whether answers do, as the original's of Llama; alignment then leaves it out."""

    def embed(self, frozen: Frozen, ids: Int[Array, "b t"]) -> Float[Array, "b t e"]:
        return self.model.apply({"params": frozen.lm}, ids, method="embed")

    def compose(self, frozen: Frozen, prompt: Float[Array, "b m e"]) -> Before:
        """[soft prompt; BOS and anchor]."""
        ids = jnp.tile(jnp.asarray(self.between, jnp.int32)[None], (len(prompt), 1))
        fixed = self.embed(frozen, ids).astype(prompt.dtype)
        vectors = jnp.concatenate([prompt, fixed], axis=1)
        return Before(vectors, jnp.ones(vectors.shape[:2], bool))

    def nothing(self, frozen: Frozen, rows: int, past: KeyValues | None = None) -> Before:
        """BOS and anchor alone, or else what texts begin with; behind a past, if there is one."""
        ids = jnp.asarray(self.between or (self.begin,), jnp.int32)
        vectors = self.embed(frozen, jnp.tile(ids[None], (rows, 1)))
        return Before(vectors, jnp.ones(vectors.shape[:2], bool), past)

    def answer_logits(
        self,
        frozen: Frozen,
        before: Before,
        answer: Int[Array, "b t"],
        real: Bool[Array, "b t"],
    ) -> Float[Array, "b t v"]:
        """Logits of every token of the answer, in one pass; the last token is never fed."""
        fed = self.embed(frozen, answer[:, :-1]).astype(before.vectors.dtype)
        vectors = jnp.concatenate([before.vectors, fed], axis=1)
        seen = jnp.concatenate([before.mask, real[:, :-1]], axis=1)
        return self._logits(
            frozen, vectors, seen, before.vectors.shape[1], before.past, before.reading
        )

    def text_logits(
        self,
        frozen: Frozen,
        text: Int[Array, "b s"],
        mask: Bool[Array, "b s"],
        answer: Int[Array, "b t"],
        real: Bool[Array, "b t"],
    ) -> Float[Array, "b t v"]:
        """The same behind a text, padded on the left."""
        ids = jnp.concatenate([text, answer[:, :-1]], axis=1)
        seen = jnp.concatenate([mask, real[:, :-1]], axis=1)
        return self._logits(frozen, ids, seen, text.shape[1])

    def _logits(self, frozen, inputs, mask, at, past=None, reading=None):
        apply = partial(self.model.apply, {"params": frozen.lm})
        positions = positions_of(mask) + (past.length if past is not None else 0)
        after = hooks_of(reading)
        hidden = apply(inputs, mask, positions=positions, past=past, after=after).hidden
        return apply(hidden[:, at - 1 :], method="logits")


def drop_slots(
    shared: Float[Array, "b m d"], keep: Float[Array, ""], key: Any
) -> Float[Array, "b m d"]:
    """Each slot stays with probability `keep`, the first wherever none would, scaled up."""
    draw = lambda key, shape: jax.random.bernoulli(key, keep, shape)  # noqa: E731
    stays = across.draw(draw, key, shared.shape[:2])
    stays = stays.at[:, 0].set(stays[:, 0] | ~stays.any(1))
    return jnp.where(stays[..., None], shared / keep, 0.0)
