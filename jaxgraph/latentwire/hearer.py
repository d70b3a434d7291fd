"""A frozen model that hears a wire: composed sequences, and the logits over answers."""

from collections.abc import Sequence
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


class Pass(struct.PyTreeNode):
    """What a model makes of an answer of t tokens."""

    logits: Any
    """[b t v] of each token."""
    states: Any
    """[n b t e] of the layers that were asked for, 0 for embeddings: where the logits are, in
    front of each token, or one place later."""


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

    def compose(
        self, frozen: Frozen, prompt: Float[Array, "b m e"], past: KeyValues | None = None
    ) -> Before:
        """[soft prompt; BOS and anchor], behind a past, if there is one."""
        ids = jnp.tile(jnp.asarray(self.between, jnp.int32)[None], (len(prompt), 1))
        fixed = self.embed(frozen, ids).astype(prompt.dtype)
        vectors = jnp.concatenate([prompt, fixed], axis=1)
        return Before(vectors, jnp.ones(vectors.shape[:2], bool), past)

    def nothing(self, frozen: Frozen, rows: int, past: KeyValues | None = None) -> Before:
        """BOS and anchor alone, or else what texts begin with; behind a past, if there is one."""
        ids = jnp.asarray(self.between or (self.begin,), jnp.int32)
        vectors = self.embed(frozen, jnp.tile(ids[None], (rows, 1)))
        return Before(vectors, jnp.ones(vectors.shape[:2], bool), past)

    def answer_pass(
        self,
        frozen: Frozen,
        before: Before,
        answer: Int[Array, "b t"],
        real: Bool[Array, "b t"],
        layers: Sequence[int] = (),
    ) -> Pass:
        """All tokens of the answer in one pass; the last token is never fed."""
        fed = self.embed(frozen, answer[:, :-1]).astype(before.vectors.dtype)
        vectors = jnp.concatenate([before.vectors, fed], axis=1)
        seen = jnp.concatenate([before.mask, real[:, :-1]], axis=1)
        past, after = before.past, hooks_of(before.reading)
        apply = partial(self.model.apply, {"params": frozen.lm}, past=past, after=after)
        start = past.length if past is not None else 0
        return self._cut(frozen, apply, vectors, seen, start, answer.shape[1], layers)

    def answer_logits(
        self,
        frozen: Frozen,
        before: Before,
        answer: Int[Array, "b t"],
        real: Bool[Array, "b t"],
    ) -> Float[Array, "b t v"]:
        """Logits of that pass."""
        return self.answer_pass(frozen, before, answer, real).logits

    def text_pass(
        self,
        frozen: Frozen,
        text: Int[Array, "b s"],
        mask: Bool[Array, "b s"],
        answer: Int[Array, "b t"],
        real: Bool[Array, "b t"],
        layers: Sequence[int] = (),
        *,
        later: bool = False,
    ) -> Pass:
        """The same behind a text, padded on the left; `later` takes states behind each token."""
        fed, shown = (answer, real) if later else (answer[:, :-1], real[:, :-1])
        ids = jnp.concatenate([text, fed], axis=1)
        seen = jnp.concatenate([mask, shown], axis=1)
        apply = partial(self.model.apply, {"params": frozen.lm})
        return self._cut(frozen, apply, ids, seen, 0, answer.shape[1], layers, int(later))

    def _cut(self, frozen, apply, inputs, mask, start, length, layers, later=0):
        """Runs the model, and keeps what belongs to the answer at the end of the inputs."""
        out = apply(inputs, mask, positions=positions_of(mask) + start, keep_hidden=bool(layers))
        at = inputs.shape[1] - later - length
        hidden = out.hidden[:, at : at + length]
        logits = self.model.apply({"params": frozen.lm}, hidden, method="logits")
        states = [out.hidden_states[i, :, at + later :] for i in layers]
        return Pass(logits, jnp.stack(states) if states else None)


def drop_slots(
    shared: Float[Array, "b m d"], keep: Float[Array, ""], key: Any
) -> Float[Array, "b m d"]:
    """Each slot stays with probability `keep`, the first wherever none would, scaled up."""
    draw = lambda key, shape: jax.random.bernoulli(key, keep, shape)  # noqa: E731
    stays = across.draw(draw, key, shared.shape[:2])
    stays = stays.at[:, 0].set(stays[:, 0] | ~stays.any(1))
    return jnp.where(stays[..., None], shared / keep, 0.0)
