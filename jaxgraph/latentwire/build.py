"""The modules that a config describes, and their first parameters."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxgraph.errors import UserError
from jaxgraph.latentwire.adapter import Adapter
from jaxgraph.latentwire.config import LatentWire
from jaxgraph.latentwire.encoder import InterlinguaEncoder
from jaxgraph.latentwire.heads import Coprocessor, DeepPrefix, GistHead, LatentAdapter, Refiner
from jaxgraph.latentwire.hearer import Frozen, Hearer
from jaxgraph.latentwire.modules import Modules
from jaxgraph.latentwire.sources import begin_of, between_ids
from jaxgraph.lm.config import Architecture
from jaxgraph.lm.load import Lm


def make_modules(config: LatentWire, lms: Mapping[str, Lm]) -> Modules:
    """Modules of a config around these models.

    Raises:
      UserError: a model lacks a layer that the config names, or its width does not fit.
    """
    encoder = config.encoder
    module = InterlinguaEncoder(
        width=encoder.width,
        layers=encoder.layers,
        heads=encoder.heads,
        shared_slots=encoder.shared_slots,
        private_slots=encoder.private_slots,
        models=tuple(lms),
        ffn_ratio=encoder.ffn_ratio,
    )
    hearers = {
        name: Hearer(lm.model, between_ids(config, lm.tokenizer), begin_of(lm.tokenizer))
        for name, lm in lms.items()
    }
    archs = {name: lm.model.arch for name, lm in lms.items()}
    for name, arch in archs.items():
        _check_layers(config, name, arch)
    options = config.adapter

    def each(make, wanted):
        return {name: make(config, arch) for name, arch in archs.items() if wanted}

    return Modules(
        module,
        each(_adapter, True),
        hearers,
        refiner=_refiner(config) if encoder.refiner else None,
        prefixes=each(_deep_prefix, options.deep),
        coprocessors=each(_coprocessor, options.coprocessor),
        blocks=each(_blocks, options.layers),
        gists=each(_gist, config.losses.gist.weight),
        soft_prompt=options.soft_prompt,
    )


def init_params(
    modules: Modules, config: LatentWire, frozen: Mapping[str, Frozen], key: Any
) -> dict[str, Any]:
    """Fresh parameters of all modules; colours begin as the embeddings' own."""
    slots, width = config.encoder.slots, config.encoder.width
    keys = jax.random.split(key, 1 + len(modules.adapters))
    ids, z = jnp.zeros((1, 2), jnp.int32), jnp.zeros((1, slots, width))
    params = {"encoder": modules.encoder.init(keys[0], ids)["params"]}
    if modules.refiner is not None:
        params["refiner"] = modules.refiner.init(jax.random.fold_in(keys[0], 1), z)["params"]
    for each, (name, adapter) in zip(keys[1:], modules.adapters.items(), strict=True):
        params[f"adapter_{name}"] = adapter.init(each, z)["params"]
        if adapter.colour:
            begun = {"gamma": frozen[name].deviation, "beta": frozen[name].mean}
            params[f"adapter_{name}"]["colour"] = begun
        if name in modules.prefixes:
            prompt = jnp.zeros((1, slots, adapter.outputs))
            key = jax.random.fold_in(each, 1)
            params[f"deep_prefix_{name}"] = modules.prefixes[name].init(key, prompt)["params"]
        if name in modules.blocks:
            stream = jnp.zeros((1, 1, modules.hearers[name].model.arch.width))
            params[f"latent_adapters_{name}"] = {
                str(layer): block.init(jax.random.fold_in(each, 2 + layer), stream, z)["params"]
                for layer, block in modules.blocks[name].items()
            }
        keys_of_heads = jax.random.split(jax.random.fold_in(each, 0))
        if name in modules.coprocessors:
            found = modules.coprocessors[name].init(keys_of_heads[0], z)
            params[f"coprocessor_{name}"] = found["params"]
        if name in modules.gists:
            params[f"gist_{name}"] = modules.gists[name].init(keys_of_heads[1], z)["params"]
    return params


def _adapter(config: LatentWire, arch: Architecture) -> Adapter:
    encoder, options = config.encoder, config.adapter
    return Adapter(
        width=encoder.width,
        outputs=options.prefix_width or arch.width,
        slots=encoder.slots,
        hidden_ratio=options.hidden_ratio,
        metadata=options.metadata,
        length_norm=float(config.data.max_answer_tokens),
        colour=options.colour,
    )


def _refiner(config: LatentWire) -> Refiner:
    encoder = config.encoder
    return Refiner(encoder.width, encoder.refiner, encoder.refiner_heads)


def _deep_prefix(config: LatentWire, arch: Architecture) -> DeepPrefix:
    width, slots = config.adapter.prefix_width or arch.width, config.encoder.slots
    return DeepPrefix(width, slots, arch.layers, arch.kv_heads, arch.head_width)


def _coprocessor(config: LatentWire, arch: Architecture) -> Coprocessor:
    options = config.adapter
    return Coprocessor(
        slots=options.coprocessor,
        hidden=options.coprocessor_width,
        kv_heads=(arch.kv_heads,) * arch.layers,
        head_width=arch.head_width,
        pool=options.coprocessor_pool,
    )


def _blocks(config: LatentWire, arch: Architecture) -> dict[int, LatentAdapter]:
    options = config.adapter
    block = LatentAdapter(arch.width, config.encoder.width, options.layer_heads)
    return dict.fromkeys(options.layers, block)


def _gist(config: LatentWire, arch: Architecture) -> GistHead:
    width, options = config.encoder.width, config.losses.gist
    hidden = max(options.hidden, width)
    return GistHead(width, arch.width, options.tokens, hidden, options.layers)


def _check_layers(config: LatentWire, name: str, arch: Architecture) -> None:
    """Raises:
      UserError: the model has no such layer, or its width cannot be cut into so many heads.
    """
    count, adapter = arch.layers, config.adapter
    if adapter.layers and arch.width % adapter.layer_heads:
        raise UserError(
            f"task.adapter.layer_heads: got {adapter.layer_heads}; allowed: divisors of {name}'s "
            f"{arch.width}"
        )
    for key, layers, last in (
        ("adapter.layers", adapter.layers, count - 1),
        ("losses.state_layers", config.losses.read_layers, count),
    ):
        for layer in layers:
            if layer > last:
                raise UserError(
                    f"task.{key}: {name} has no layer {layer}; allowed: 0 to {last}"
                )
