"""Which of our leaves is which tensor of a Hugging Face checkpoint."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from jaxgraph.lm.config import Architecture

LAYER = "model.layers.{i}."


class Name(NamedTuple):
    """One line of the table; a key with ``{i}`` is one of a stack."""

    path: str
    key: str
    transposed: bool = False
    """[out, in] there, [in, out] here."""


def table(arch: Architecture) -> Iterator[Name]:
    """All leaves of a model."""
    yield Name("embedding", "model.embed_tokens.weight")
    for name in ("query", "key", "value", "out"):
        key = f"{LAYER}self_attn.{name[0]}_proj."
        yield Name(f"layers/{name}/kernel", f"{key}weight", True)
        if arch.qkv_bias and name != "out":
            yield Name(f"layers/{name}/bias", f"{key}bias")
    for name in ("gate", "up", "down"):
        yield Name(f"layers/{name}/kernel", f"{LAYER}mlp.{name}_proj.weight", True)
    yield Name("layers/attention_norm/scale", f"{LAYER}input_layernorm.weight")
    yield Name("layers/mlp_norm/scale", f"{LAYER}post_attention_layernorm.weight")
    yield Name("norm", "model.norm.weight")
    if not arch.tied:
        yield Name("head", "lm_head.weight", True)


def is_derived(key: str, arch: Architecture) -> bool:
    """Tensors that follow from others: rotary tables of old files, the head of a tied model."""
    return key.endswith("rotary_emb.inv_freq") or (arch.tied and key == "lm_head.weight")


def keys_of(name: Name, arch: Architecture) -> list[str]:
    """The tensors of a leaf, in the order of the layers."""
    if "{i}" not in name.key:
        return [name.key]
    return [name.key.format(i=i) for i in range(arch.layers)]


def shapes(arch: Architecture) -> Mapping[str, tuple[int, ...]]:
    """Shape of every tensor by its key."""
    d, f, v = arch.width, arch.ffn_width, arch.vocab_size
    queries, keys = arch.heads * arch.head_width, arch.kv_heads * arch.head_width
    sizes = {
        "embedding": (v, d), "norm": (d,), "head": (v, d),
        "layers/query/kernel": (queries, d), "layers/query/bias": (queries,),
        "layers/key/kernel": (keys, d), "layers/key/bias": (keys,),
        "layers/value/kernel": (keys, d), "layers/value/bias": (keys,),
        "layers/out/kernel": (d, queries),
        "layers/gate/kernel": (f, d), "layers/up/kernel": (f, d), "layers/down/kernel": (d, f),
        "layers/attention_norm/scale": (d,), "layers/mlp_norm/scale": (d,),
    }  # fmt: skip
    return {key: sizes[name.path] for name in table(arch) for key in keys_of(name, arch)}
