"""The two small models of the asset `glassllm`: an .npz of half-precision weights each."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxgraph.errors import UserError
from jaxgraph.lm.config import Architecture
from jaxgraph.lm.load.gguf import unpermute
from jaxgraph.lm.load.json_file import positive
from jaxgraph.lm.load.names import LAYER
from jaxgraph.lm.load.params import Tensor, fill_params

PARTS = {
    "norm1.gamma": "input_layernorm", "norm2.gamma": "post_attention_layernorm",
    "attn.W_Q": "self_attn.q_proj", "attn.W_K": "self_attn.k_proj", "attn.W_V": "self_attn.v_proj",
    "attn.W_O": "self_attn.o_proj", "ffn.W1": "mlp.gate_proj", "ffn.W3": "mlp.up_proj",
    "ffn.W2": "mlp.down_proj",
}  # fmt: skip


def load_glass(path: Path, dtype: str | None = None) -> tuple[Architecture, Any]:
    """Architecture and parameters (numpy arrays) of a model of glassllm 0.1.0.

    Args:
      dtype: of the parameters; None keeps float16.
    """
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        config = json.loads(str(arrays.pop("__config__")))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is not a model of glassllm ({error})") from error
    size = partial(positive, config, where=path, kind=int)
    heads, kv_heads = size(key="n_heads"), size(key="n_kv_heads")
    arch = Architecture(
        vocab_size=size(key="vocab_size"),
        width=size(key="d_model"),
        layers=size(key="n_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_width=size(key="d_model") // heads,
        ffn_width=arrays["blocks.0.ffn.W1"].shape[1],
        norm_eps=positive(config, "eps", path, float),
        rope_theta=positive(config, "rope_base", path, float),
        tied=True,
    )
    tensors = {}
    for name, array in arrays.items():
        if array.ndim == 2 and name != "E":  # [in, out] there
            array = array.T
        if name.endswith(("W_Q", "W_K")):
            array = unpermute(array, heads if name.endswith("Q") else kv_heads)
        tensors[_key(name)] = Tensor(array.shape, array.dtype, partial(np.asarray, array))
    return arch, fill_params(arch, tensors, str(path), dtype)


def _key(name: str) -> str:
    if name in ("E", "norm_f.gamma"):
        return {"E": "model.embed_tokens.weight", "norm_f.gamma": "model.norm.weight"}[name]
    _, layer, part = name.split(".", 2)
    return f"{LAYER.format(i=layer)}{PARTS.get(part, part)}.weight"
