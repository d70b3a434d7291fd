"""What is trained, and what it makes frozen models hear."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from jaxgraph.latentwire.adapter import Adapter, calibrate
from jaxgraph.latentwire.encoder import InterlinguaEncoder, Wire
from jaxgraph.latentwire.heads import (
    Coprocessor,
    DeepPrefix,
    GistHead,
    LatentAdapter,
    Refiner,
    layered,
)
from jaxgraph.latentwire.hearer import Before, Frozen, Hearer
from jaxgraph.lm.cache import KeyValues, join, past_of
from jaxgraph.lm.reading import Reading


@dataclass(frozen=True)
class Modules:
    """Modules by the names of the models that they are for.

    Parameters go by `encoder`, `refiner`, and for each model `adapter_NAME`, `deep_prefix_NAME`,
    `coprocessor_NAME`, `latent_adapters_NAME` (by layer) and `gist_NAME`.
    """

    encoder: InterlinguaEncoder
    adapters: Mapping[str, Adapter]
    hearers: Mapping[str, Hearer]
    refiner: Refiner | None = None
    """What all models hear goes through it first, each model's slots for themselves."""
    prefixes: Mapping[str, DeepPrefix] = field(default_factory=dict)
    """Of models that hear keys and values made out of the soft prompt, instead of it."""
    coprocessors: Mapping[str, Coprocessor] = field(default_factory=dict)
    """Of models that hear keys and values made out of the wire."""
    blocks: Mapping[str, Mapping[int, LatentAdapter]] = field(default_factory=dict)
    """Of models whose layers read the wire."""
    gists: Mapping[str, GistHead] = field(default_factory=dict)
    """Of models whose texts' first embeddings are guessed."""
    soft_prompt: bool = True
    """Whether it is fed behind a coprocessor's keys and values."""

    def encode(self, params: Any, batch: Mapping[str, Any]) -> Wire:
        """The wire of a batch's texts."""
        inputs = batch["bytes"], batch["bytes_mask"]
        return self.encoder.apply({"params": params["encoder"]}, *inputs)

    def refine(self, params: Any, z: jax.Array, count: int | None = None) -> jax.Array:
        """One model's slots after they have seen one another, or the first of them."""
        if self.refiner is None:
            return z
        seen = None if count is None else jnp.tile(jnp.arange(z.shape[1]) < count, (len(z), 1))
        return self.refiner.apply({"params": params["refiner"]}, z, seen)

    def prompt(
        self, params: Any, frozen: Frozen, name: str, z: jax.Array, lengths: Any = None,
        count: int | None = None,
    ) -> tuple[jax.Array, jax.Array]:  # fmt: skip
        """A model's soft prompt out of refined slots, or the first of them, calibrated and raw."""
        raw = self.adapters[name].apply({"params": params[f"adapter_{name}"]}, z, lengths)
        return calibrate(raw[:, :count], frozen.rms), raw[:, :count]

    def before(
        self, params: Any, frozen: Frozen, name: str, z: jax.Array, prompt: jax.Array
    ) -> Before:
        """What a model hears of a soft prompt and as many refined slots."""
        hearer, z = self.hearers[name], z[:, : prompt.shape[1]]
        past = self._past(params, name, z, prompt)
        if name in self.prefixes or not self.soft_prompt:
            found = hearer.nothing(frozen, len(prompt), past)
        else:
            found = hearer.compose(frozen, prompt, past)
        if name not in self.blocks:
            return found
        modules, own = tuple(self.blocks[name].items()), params[f"latent_adapters_{name}"]
        each = tuple(own[str(layer)] for layer, _ in modules)
        return found.replace(reading=Reading(modules, each, z))

    def hear(
        self, params: Any, frozen: Frozen, name: str, z: jax.Array, count: int | None = None
    ) -> Before:
        """The same of a wire whose answer's length is not known."""
        z = self.refine(params, z, count)
        prompt, _ = self.prompt(params, frozen, name, z, count=count)
        return self.before(params, frozen, name, z, prompt)

    def _past(self, params: Any, name: str, z: jax.Array, prompt: jax.Array) -> KeyValues | None:
        """Keys and values in front of everything else, if there are any."""
        past = None
        if name in self.prefixes:
            past = self.prefixes[name].apply({"params": params[f"deep_prefix_{name}"]}, prompt)
            real = prompt.shape[1]
            past = past_of(past.keys[:, :, :, :real], past.values[:, :, :, :real])
        if name in self.coprocessors:
            own = {"params": params[f"coprocessor_{name}"]}
            more = layered(self.coprocessors[name].apply(own, z))
            past = more if past is None else join(past, more)
        return past
