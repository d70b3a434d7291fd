"""The modules that a config describes, and their first parameters."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxgraph.errors import UserError
from jaxgraph.latentwire.adapter import Adapter
from jaxgraph.latentwire.config import LatentWire
from jaxgraph.latentwire.encoder import InterlinguaEncoder
from jaxgraph.latentwire.heads import DeepPrefix, LatentAdapter
from jaxgraph.latentwire.hearer import Frozen, Hearer
from jaxgraph.latentwire.objective import WireObjective
from jaxgraph.latentwire.sources import begin_of, between_ids
from jaxgraph.lm.config import Architecture
from jaxgraph.lm.load import Lm


def make_objective(config: LatentWire, lms: Mapping[str, Lm]) -> WireObjective:
    """Modules of a config around these models."""
    encoder, adapters, hearers, prefixes, blocks = config.encoder, {}, {}, {}, {}
    for name, lm in lms.items():
        arch = lm.model.arch
        between = between_ids(config, lm.tokenizer)
        hearers[name] = Hearer(lm.model, between, begin_of(lm.tokenizer))
        outputs = config.adapter.prefix_width or arch.width
        if config.adapter.deep:
            prefixes[name] = DeepPrefix(
                outputs, encoder.slots, arch.layers, arch.kv_heads, arch.head_width
            )
        if config.adapter.layers:
            _check_layers(config, name, arch)
            block = LatentAdapter(arch.width, encoder.width, config.adapter.layer_heads)
            blocks[name] = dict.fromkeys(config.adapter.layers, block)
        adapters[name] = Adapter(
            width=encoder.width,
            outputs=outputs,
            slots=encoder.slots,
            hidden_ratio=config.adapter.hidden_ratio,
            metadata=config.adapter.metadata,
            length_norm=float(config.data.max_answer_tokens),
            colour=config.adapter.colour,
        )
    module = InterlinguaEncoder(
        width=encoder.width,
        layers=encoder.layers,
        heads=encoder.heads,
        shared_slots=encoder.shared_slots,
        private_slots=encoder.private_slots,
        models=tuple(lms),
        ffn_ratio=encoder.ffn_ratio,
    )
    return WireObjective(module, adapters, hearers, config.losses, prefixes, blocks)


def init_params(
    objective: WireObjective, config: LatentWire, frozen: Mapping[str, Frozen], key: Any
) -> dict[str, Any]:
    """Fresh parameters of the encoder and of each model's adapter and prefix; colours begin as the
    embeddings' own."""
    slots, width = config.encoder.slots, config.encoder.width
    keys = jax.random.split(key, 1 + len(objective.adapters))
    ids, z = jnp.zeros((1, 2), jnp.int32), jnp.zeros((1, slots, width))
    params = {"encoder": objective.encoder.init(keys[0], ids)["params"]}
    for each, (name, adapter) in zip(keys[1:], objective.adapters.items(), strict=True):
        params[f"adapter_{name}"] = adapter.init(each, z)["params"]
        if adapter.colour:
            begun = {"gamma": frozen[name].deviation, "beta": frozen[name].mean}
            params[f"adapter_{name}"]["colour"] = begun
        if name in objective.prefixes:
            prompt = jnp.zeros((1, slots, adapter.outputs))
            key = jax.random.fold_in(each, 1)
            params[f"deep_prefix_{name}"] = objective.prefixes[name].init(key, prompt)["params"]
        if name in objective.blocks:
            stream = jnp.zeros((1, 1, objective.hearers[name].model.arch.width))
            params[f"latent_adapters_{name}"] = {
                str(layer): block.init(jax.random.fold_in(each, 2 + layer), stream, z)["params"]
                for layer, block in objective.blocks[name].items()
            }
    return params


def _check_layers(config: LatentWire, name: str, arch: Architecture) -> None:
    """Raises:
      UserError: the model has no such layer, or its width cannot be cut into so many heads.
    """
    count, heads = arch.layers, config.adapter.layer_heads
    if arch.width % heads:
        raise UserError(
            f"task.adapter.layer_heads: got {heads}; allowed: divisors of {name}'s {arch.width}"
        )
    for layer in config.adapter.layers:
        if layer >= count:
            raise UserError(
                f"task.adapter.layers: {name} has no layer {layer}; allowed: 0 to {count - 1}"
            )
