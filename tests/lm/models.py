"""Tiny random models, their weights drawn by NumPy, and Hugging Face folders of them."""

import json

import numpy as np

from jaxgraph.interop.rules.lm import shapes_of
from jaxgraph.lm.config import Architecture
from jaxgraph.lm.llama import Llama

QWEN = Architecture(
    vocab_size=37, width=24, layers=3, heads=4, kv_heads=2, head_width=6, ffn_width=40,
    norm_eps=1e-6, rope_theta=1e4, tied=True, qkv_bias=True,
)  # fmt: skip
"""The one that most tests share, so that it is compiled once."""


def random_params(arch: Architecture, seed: int = 0):
    """Weights large enough that every part of the model matters."""
    import jax

    draws = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (draws.normal(size=leaf.shape) * 0.3 + 0.1).astype(leaf.dtype),
        shapes_of(arch),
    )


def random_model(arch: Architecture = QWEN):
    return Llama(arch), random_params(arch)


def config_of(arch: Architecture, **changed) -> dict:
    """A config.json as transformers 4 writes it."""
    return {
        "model_type": "qwen2" if arch.qkv_bias else "llama", "vocab_size": arch.vocab_size,
        "hidden_size": arch.width, "num_hidden_layers": arch.layers,
        "num_attention_heads": arch.heads, "num_key_value_heads": arch.kv_heads,
        "head_dim": arch.head_width, "intermediate_size": arch.ffn_width,
        "rms_norm_eps": arch.norm_eps, "rope_theta": arch.rope_theta, "hidden_act": "silu",
        "tie_word_embeddings": arch.tied,
    } | changed  # fmt: skip


def write_folder(folder, arch, tensors, **changed):
    """config.json and one file of these tensors."""
    from safetensors.numpy import save_file

    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(arch, **changed)))
    save_file(tensors, folder / "model.safetensors")
    return folder
