"""A frozen model that hears a wire: composed sequences, and the logits over answers."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.lm.cache import positions_of
from jaxgraph.lm.llama import Llama
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


@dataclass(frozen=True)
class Hearer:
    """One frozen model and what stands between soft prompt and answer."""

    model: Llama
    between: tuple[int, ...] = ()
    """Ids: BOS, anchor."""
    begins_with_bos: bool = False
    """Whether answers do, as the original's of Llama; alignment then leaves it out."""

    def embed(self, frozen: Frozen, ids: Int[Array, "b t"]) -> Float[Array, "b t e"]:
        return self.model.apply({"params": frozen.lm}, ids, method="embed")

    def compose(
        self, frozen: Frozen, prompt: Float[Array, "b m e"]
    ) -> tuple[Float[Array, "b t e"], Bool[Array, "b t"]]:
        """Vectors and mask of [soft prompt; BOS and anchor]."""
        ids = jnp.tile(jnp.asarray(self.between, jnp.int32)[None], (len(prompt), 1))
        fixed = self.embed(frozen, ids).astype(prompt.dtype)
        vectors = jnp.concatenate([prompt, fixed], axis=1)
        return vectors, jnp.ones(vectors.shape[:2], bool)

    def answer_logits(
        self,
        frozen: Frozen,
        before: Float[Array, "b s e"],
        mask: Bool[Array, "b s"],
        answer: Int[Array, "b t"],
        real: Bool[Array, "b t"],
    ) -> Float[Array, "b t v"]:
        """Logits of every token of the answer, in one pass; the last token is never fed."""
        fed = self.embed(frozen, answer[:, :-1]).astype(before.dtype)
        vectors = jnp.concatenate([before, fed], axis=1)
        seen = jnp.concatenate([mask, real[:, :-1]], axis=1)
        return self._logits(frozen, vectors, seen, before.shape[1])

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

    def _logits(self, frozen, inputs, mask, at):
        apply = partial(self.model.apply, {"params": frozen.lm})
        hidden = apply(inputs, mask, positions=positions_of(mask)).hidden
        return apply(hidden[:, at - 1 :], method="logits")


def drop_slots(
    shared: Float[Array, "b m d"], keep: Float[Array, ""], key: Any
) -> Float[Array, "b m d"]:
    """Each slot stays with probability `keep`, the first wherever none would, scaled up."""
    draw = lambda key, shape: jax.random.bernoulli(key, keep, shape)  # noqa: E731
    stays = across.draw(draw, key, shared.shape[:2])
    stays = stays.at[:, 0].set(stays[:, 0] | ~stays.any(1))
    return jnp.where(stays[..., None], shared / keep, 0.0)
