"""The architecture that a config.json describes."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from jaxgraph.errors import UserError
from jaxgraph.lm.config import Architecture
from jaxgraph.lm.load.json_file import positive
from jaxgraph.lm.rotary import llama3_divisors

FAMILIES = ("llama", "qwen2")


def architecture_of(config: Mapping[str, Any], where: Any = "config.json") -> Architecture:
    """Reads the fields that transformers of versions 4 and 5 write.

    Raises:
      UserError: another family, or an option of these that changes numbers and is not supported.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UserError(f"model_type of {where} is {family!r}; allowed: {', '.join(FAMILIES)}")
    _refuse(config, where, "hidden_act", ("silu",), "silu")
    for key in ("attention_bias", "mlp_bias", "use_sliding_window"):
        _refuse(config, where, key, (False, None), False)
    size = partial(positive, config, where=where, kind=int)
    width, heads = size(key="hidden_size"), size(key="num_attention_heads")
    head_width = size(key="head_dim", default=width // heads)
    kv_heads = size(key="num_key_value_heads", default=heads)
    if heads % kv_heads or head_width % 2:
        raise UserError(
            f"{where} has {heads} heads over {kv_heads} key-value heads of width {head_width}; "
            "the first must be a multiple of the second, and the width even"
        )
    # Version 5 keeps all about rotation in one object.
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = positive(rope, "rope_theta", where, float, config.get("rope_theta") or 10000.0)
    return Architecture(
        vocab_size=size(key="vocab_size"),
        width=width,
        layers=size(key="num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        ffn_width=size(key="intermediate_size"),
        norm_eps=positive(config, "rms_norm_eps", where, float, 1e-6),
        rope_theta=theta,
        rope_divisors=_divisors(rope, theta, head_width, where),
        tied=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=family == "qwen2",
    )


def _refuse(
    config: Mapping[str, Any], where: Any, key: str, allowed: tuple, default: Any
) -> None:
    value = config.get(key, default)
    if value not in allowed:
        raise UserError(f"{key} of {where} is {value!r}; only {allowed[0]!r} is supported")


def _divisors(
    rope: Mapping[str, Any], theta: float, width: int, where: Any
) -> tuple[float, ...]:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    number = partial(positive, rope, where=f"rope scaling of {where}")
    if kind == "default":
        return ()
    if kind == "linear":
        return (number(key="factor", kind=float),) * (width // 2)
    if kind == "llama3":
        return llama3_divisors(
            theta,
            width,
            factor=number(key="factor", kind=float),
            low=number(key="low_freq_factor", kind=float),
            high=number(key="high_freq_factor", kind=float),
            original=number(key="original_max_position_embeddings", kind=int),
        )
    raise UserError(
        f"rope scaling of {where} is {kind!r}; allowed: default, linear, llama3"
    )
