"""A GGUF file as a model: its architecture, and its tensors under Hugging Face's names."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxgraph.errors import UserError
from jaxgraph.lm.config import Architecture
from jaxgraph.lm.load.architecture import FAMILIES
from jaxgraph.lm.load.gguf_file import Gguf, read_gguf
from jaxgraph.lm.load.json_file import positive
from jaxgraph.lm.load.names import LAYER
from jaxgraph.lm.load.params import Tensor, fill_params

WHOLE = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
}  # fmt: skip
PARTS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
ROPE = "rope_freqs.weight"


def load_gguf(path: Path, dtype: str | None = None) -> tuple[Architecture, Any, Mapping[str, Any]]:
    """Architecture, parameters (numpy arrays) and header of a file.

    Args:
      dtype: of the parameters; None keeps floats as they are and gives quantised tensors as
        float32.

    Raises:
      UserError: damaged, of another family, or the tensors are not those of the header.
    """
    file = read_gguf(path)
    arch = _architecture(file, path)
    # llama.cpp stores the rows of queries and keys for rotation of neighbouring coordinates, in
    # the Llama family only.
    heads = {"q_proj": arch.heads, "k_proj": arch.kv_heads}
    permuted = heads if file.values["general.architecture"] == "llama" else {}
    tensors = {}
    for name, tensor in file.tensors.items():
        if name == ROPE:
            continue
        key = hugging_face_name(name)
        count = next((n for part, n in permuted.items() if f".{part}." in key), None)
        if count is not None:
            tensor = tensor._replace(read=partial(_unpermuted, tensor, count))
        tensors[key] = tensor
    return arch, fill_params(arch, tensors, str(path), dtype), file.values


def hugging_face_name(name: str) -> str:
    """The key of a GGUF tensor; a name of no known tensor stays, to be reported."""
    found = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if found and found[2] in PARTS:
        return f"{LAYER.format(i=found[1])}{PARTS[found[2]]}.{found[3]}"
    stem, _, end = name.rpartition(".")
    return f"{WHOLE[stem]}.{end}" if stem in WHOLE else name


def unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from neighbouring pairs (0, 1), (2, 3) to split halves (0, w/2), ..."""
    width = len(weight) // heads
    pairs = weight.reshape(heads, width // 2, 2, *weight.shape[1:])
    return np.swapaxes(pairs, 1, 2).reshape(weight.shape)


def _unpermuted(tensor: Tensor, heads: int) -> np.ndarray:
    return unpermute(tensor.read(), heads)


def _architecture(file: Gguf, path: Path) -> Architecture:
    values = file.values
    family = values.get("general.architecture")
    if family not in FAMILIES:
        raise UserError(f"{path} holds a {family!r} model; allowed: {', '.join(FAMILIES)}")
    if "token_embd.weight" not in file.tensors:
        raise UserError(f"{path} has no tensor token_embd.weight")
    size = partial(positive, values, where=path, kind=int)
    width = size(key=f"{family}.embedding_length")
    heads = size(key=f"{family}.attention.head_count")
    scaling = values.get(f"{family}.rope.scaling.type", "none")
    if scaling not in ("none", "") and ROPE not in file.tensors:
        raise UserError(f"rope scaling {scaling!r} of {path} is not supported")
    divisors = file.tensors[ROPE].read().tolist() if ROPE in file.tensors else []
    return Architecture(
        vocab_size=file.tensors["token_embd.weight"].shape[0],
        width=width,
        layers=size(key=f"{family}.block_count"),
        heads=heads,
        kv_heads=size(key=f"{family}.attention.head_count_kv", default=heads),
        head_width=size(key=f"{family}.attention.key_length", default=width // heads),
        ffn_width=size(key=f"{family}.feed_forward_length"),
        norm_eps=positive(
            values, f"{family}.attention.layer_norm_rms_epsilon", path, float, 1e-5
        ),
        rope_theta=positive(values, f"{family}.rope.freq_base", path, float, 10000.0),
        rope_divisors=tuple(divisors),
        tied="output.weight" not in file.tensors,
        qkv_bias=family == "qwen2",
    )
