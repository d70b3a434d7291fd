"""Weights and tokenizers from files: Hugging Face folders, GGUF, glassllm's archives."""

from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxgraph.errors import UserError
from jaxgraph.lm.config import Compute
from jaxgraph.lm.llama import Llama
from jaxgraph.lm.load.gguf import load_gguf
from jaxgraph.lm.load.glass import load_glass
from jaxgraph.lm.load.hugging_face import load_folder
from jaxgraph.lm.load.tokenizer import LmTokenizer, read_tokenizer
from jaxgraph.lm.load.vocabulary import gguf_tokenizer, glass_tokenizer


class Lm(NamedTuple):
    """A frozen language model, ready for use."""

    model: Llama
    params: Any
    """JAX arrays: the argument of every step, never part of a state."""
    tokenizer: LmTokenizer


def load_lm(path: Path, compute: Compute | None = None, dtype: str | None = None) -> Lm:
    """Reads a model and its tokenizer.

    Args:
      path: a Hugging Face folder, a .gguf file, or an .npz of glassllm beside its .tokenizer.json.
      dtype: of the parameters; None keeps those of the files (quantised ones become float32).

    Raises:
      UserError: something is missing, damaged or of a kind that is not supported.
    """
    if path.is_dir():
        (arch, params), tokenizer = load_folder(path, dtype), read_tokenizer(path)
    elif path.suffix == ".gguf":
        arch, params, values = load_gguf(path, dtype)
        tokenizer = gguf_tokenizer(values, path)
    elif path.suffix == ".npz":
        arch, params = load_glass(path, dtype)
        tokenizer = glass_tokenizer(path.with_suffix(".tokenizer.json"))
    else:
        raise UserError(f"no language model at {path}: expected a folder, a .gguf or an .npz file")
    if tokenizer.vocab_size > arch.vocab_size:
        raise UserError(
            f"the tokenizer of {path} has {tokenizer.vocab_size} ids, its model {arch.vocab_size}"
        )
    return Lm(Llama(arch, compute or Compute()), jax.tree.map(jax.numpy.asarray, params), tokenizer)
