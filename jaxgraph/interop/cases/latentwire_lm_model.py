"""The language model of a golden case, and the sequences that the original feeds it."""

from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxgraph.interop.case import Case
from jaxgraph.interop.rules.lm import params_from_torch
from jaxgraph.lm.cache import KeyValues, past_of
from jaxgraph.lm.config import Architecture
from jaxgraph.lm.llama import Llama
from jaxgraph.lm.load.architecture import architecture_of

FAMILIES = {"llama": "llama", "qwen": "qwen2"}


class Wire(NamedTuple):
    """What stands between the soft prompt and the answer."""

    anchor: tuple[int, ...] = ()
    bos: bool | None = False
    """None: where there is no anchor."""


class Pass(struct.PyTreeNode):
    """What a golden pass records."""

    logits: Any
    hidden_states: Any


class Golden:
    """Model, parameters and the common inputs of a case (spec/latentwire.md, section 5.1)."""

    def __init__(self, case: Case):
        meta = case.meta_of("lm")
        self.case = case
        self.model = Llama(architecture(meta, case))
        tensors = {key: value for key, value in case.below("lm/").items() if key != "meta"}
        self.params = jax.tree.map(jnp.asarray, params_from_torch(self.model.arch, tensors))
        self.bos_id, self.pad_id = meta["bos_id"], meta["pad_id"]
        self.stop_ids = tuple(meta["stop_ids"])
        self.anchor = tuple(meta["anchor_ids"])
        self.prefix = case["common/prefix"]
        self.batch = len(self.prefix)
        self.targets = case["common/targets"]
        self.first_ids = case["common/first_ids"]
        self._runs = jax.jit(partial(run, self.model))

    def parts(self, start: str) -> list[str]:
        """Parts whose name begins so, as ``greedy_text``."""
        names = (name.partition("/")[0] for name in self.case.arrays)
        return [name for name in dict.fromkeys(names) if name.startswith(f"{start}_")]

    def run(self, inputs: Any, mask: Any = None, past: KeyValues | None = None) -> Pass:
        """One pass, on the host."""
        mask = None if mask is None else jnp.asarray(mask)
        return jax.device_get(self._runs(self.params, jnp.asarray(inputs), mask, past))

    def embed(self, ids: Any) -> Any:
        """Vectors of ids."""
        ids = jnp.asarray(ids, jnp.int32)
        return self.model.apply({"params": self.params}, ids, method="embed")

    def composed(self, wire: Wire, answer: Any = None, prefix: Any = None) -> tuple[Any, Any]:
        """Vectors and mask of [prefix; BOS; anchor; answer], where padding of the answer is
        hidden; `prefix` replaces the case's, and may be empty."""
        prefix = self.prefix if prefix is None else prefix
        ids = np.tile(np.asarray(self.between(wire), np.int32), (self.batch, 1))
        fed = ids if answer is None else np.concatenate([ids, answer], axis=1)
        mask = np.ones((self.batch, prefix.shape[1] + fed.shape[1]), bool)
        if answer is not None and answer.shape[1]:
            mask[:, -answer.shape[1] :] = answer != self.pad_id
        return jnp.concatenate([prefix, self.embed(fed)], axis=1), mask

    def between(self, wire: Wire) -> list[int]:
        """Ids between prefix and answer."""
        bos = not wire.anchor if wire.bos is None else wire.bos
        return [self.bos_id] * (bos and self.bos_id is not None) + list(wire.anchor)

    def text(self, scaffold: np.ndarray) -> tuple[Any, Any]:
        """Ids and mask of [scaffold; answer but its last token]."""
        answer = self.targets[:, :-1]
        mask = np.concatenate([np.ones(scaffold.shape, bool), answer != self.pad_id], axis=1)
        return np.concatenate([scaffold, answer], axis=1), mask

    @cached_property
    def deep(self) -> KeyValues:
        """The recorded key-value prefix, ``[l, 2, b, g, s, k]`` in the case."""
        stored = jnp.asarray(self.case["deep/kv"])
        return past_of(stored[:, 0], stored[:, 1])


def load_golden(case: Case) -> Golden:
    return Golden(case)


def run(model: Llama, params: Any, inputs: Any, mask: Any, past: Any) -> Pass:
    out = model.apply({"params": params}, inputs, mask, past=past, keep_hidden=True)
    return Pass(model.apply({"params": params}, out.hidden, method="logits"), out.hidden_states)


def architecture(meta: dict[str, Any], case: Case) -> Architecture:
    """The case names Hugging Face's options, and its family by a word of its own."""
    config = meta | {"model_type": FAMILIES.get(meta.get("kind"), meta.get("kind"))}
    return architecture_of(config, f"lm/meta of {case.path}")
