"""Modules of golden LatentWire parts: sizes from the parameters, options from `meta`."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgraph.latentwire.adapter import Adapter
from jaxgraph.latentwire.encoder import ByteEncoder, InterlinguaEncoder, Pooler, Wire
from jaxgraph.latentwire.features import QueryEncoder, SimpleEncoder
from jaxgraph.latentwire.heads import Coprocessor, DeepPrefix, GistHead, LatentAdapter, Refiner

Meta, Tensors = dict[str, Any], Mapping[str, Any]


def byte_encoder(meta: Meta, tensors: Tensors, inputs: Tensors) -> ByteEncoder:
    width = tensors["byte_emb.weight"].shape[1]
    return ByteEncoder(width, count(tensors, "encoder.layers"), meta["n_heads"], ffn_ratio(tensors))


def pooler(meta: Meta, tensors: Tensors, inputs: Tensors) -> Pooler:
    slots, width = tensors["latent"].shape
    return Pooler(width, slots, meta["n_heads"])


def interlingua(meta: Meta, tensors: Tensors, inputs: Tensors) -> InterlinguaEncoder:
    return InterlinguaEncoder(
        width=tensors["backbone.byte_emb.weight"].shape[1],
        layers=count(tensors, "backbone.encoder.layers"),
        heads=meta["n_heads"],
        shared_slots=meta["shared_len"],
        private_slots=meta["private_len"],
        models=tuple(meta["model_keys"]),
        ffn_ratio=ffn_ratio(tensors, "backbone."),
    )


def wires(wire: Wire, meta: Meta) -> dict[str, Any]:
    """Shared and private slots, and what each model hears."""
    private = [wire.private[name] for name in meta["model_keys"]]
    found = {"out": jnp.concatenate([wire.shared, *private], axis=1), "out_shared": wire.shared}
    for name in meta["model_keys"]:
        found[f"out_private_{name}"] = wire.private[name]
        found[f"out_combined_{name}"] = wire.of(name)
    return found


def query_encoder(meta: Meta, tensors: Tensors, inputs: Tensors) -> QueryEncoder:
    slots, features = tensors["query"].shape
    return QueryEncoder(
        width=len(tensors["to_latent.1.weight"]),
        slots=slots,
        features=features,
        heads=meta["attn_heads"],
        gated="slot_gate.1.weight" in tensors,
        slot_sinusoid=meta["slot_sinusoid"],
    )


def simple_encoder(meta: Meta, tensors: Tensors, inputs: Tensors) -> SimpleEncoder:
    slots, width = tensors["queries"].shape
    return SimpleEncoder(width, slots, tensors["proj.weight"].shape[1])


def adapter(meta: Meta, tensors: Tensors, inputs: Tensors) -> Adapter:
    width = len(tensors["input_norm.weight"])
    deep = "proj_in.weight" in tensors
    return Adapter(
        width=width,
        outputs=len(tensors["out_norm.weight"]),
        slots=inputs["z"].shape[1],
        hidden_ratio=len(tensors["proj_in.weight"]) // width if deep else 1,
        metadata="position_emb" in tensors,
        length_norm=meta.get("length_norm", 32.0),
        colour="color.gamma" in tensors,
    )


def table_rms(table: np.ndarray) -> float:
    """Root mean square of an embedding table."""
    return float(np.sqrt(np.mean(np.square(table.astype(np.float64)))))


def deep_prefix(meta: Meta, tensors: Tensors, inputs: Tensors) -> DeepPrefix:
    rows, width = tensors["key_layers.0.weight"].shape
    heads = meta["num_kv_heads"]
    layers = count(tensors, "key_layers")
    return DeepPrefix(width, meta["prefix_len"], layers, heads, rows // heads)


def coprocessor(meta: Meta, tensors: Tensors, inputs: Tensors) -> Coprocessor:
    head = meta["head_dim"]
    rows = [len(tensors[f"key_layers.{i}.weight"]) for i in range(count(tensors, "key_layers"))]
    return Coprocessor(
        slots=meta["kv_len"],
        hidden=len(tensors["pre_proj.0.weight"]),
        kv_heads=tuple(each // head for each in rows),
        head_width=head,
        scale=meta["kv_scale"],
        pool=meta["pool"],
    )


def layers(pairs: Any, meta: Meta) -> dict[str, Any]:
    """Keys and values of each layer."""
    return {
        f"out/layer{i}_{name}": one
        for i, pair in enumerate(pairs)
        for name, one in zip("kv", pair, strict=True)
    }


def gist(meta: Meta, tensors: Tensors, inputs: Tensors) -> GistHead:
    targets, width = tensors["query"].shape
    blocks = count(tensors, "blocks")
    hidden = len(tensors["blocks.0.1.weight"]) if blocks else 1
    return GistHead(width, len(tensors["out_norm.weight"]), targets, hidden, blocks)


def refiner(meta: Meta, tensors: Tensors, inputs: Tensors) -> Refiner:
    width, layers = len(tensors["norm.weight"]), count(tensors, "encoder.layers")
    return Refiner(width, layers, meta["num_heads"], ffn_ratio(tensors))


def latent_adapter(meta: Meta, tensors: Tensors, inputs: Tensors) -> LatentAdapter:
    latent, width = tensors["k_proj.weight"].shape[::-1]
    return LatentAdapter(width, latent, meta["n_heads"])


def count(tensors: Tensors, start: str) -> int:
    """How many numbered modules there are."""
    names = (key.removeprefix(f"{start}.") for key in tensors if key.startswith(f"{start}."))
    return len({name.partition(".")[0] for name in names})


def ffn_ratio(tensors: Tensors, start: str = "") -> int:
    rows, width = tensors[f"{start}encoder.layers.0.linear1.weight"].shape
    return rows // width
