"""Parameter trees in safetensors files: names joined by dots, text metadata beside them."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save as to_bytes

from jaxgraph.errors import UserError
from jaxgraph.problems import Problems

Path = str | pathlib.Path


class Stored(NamedTuple):
    """Content of a file."""

    params: dict[str, Any]
    metadata: dict[str, str]


def save(path: Path, params: Any, metadata: Mapping[str, str] | None = None) -> None:
    """Writes a tree of arrays; a reader sees the old file or the new one, never a part."""
    leaves = flatten_dict(params)
    dotted = sorted({part for name in leaves for part in name if "." in part})
    if dotted:
        raise UserError(f"names with a dot cannot be told from paths: {', '.join(dotted)}")
    # safetensors writes the memory of a transposed view with the shape of the view.
    tensors = {".".join(name): np.array(leaf, order="C") for name, leaf in leaves.items()}
    path = pathlib.Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(to_bytes(tensors, dict(metadata or {})))
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}; choose a folder you own") from error


def load(path: Path, like: Any = None) -> Stored:
    """Reads a file as nested dict of numpy arrays.

    Args:
      like: tree of shapes and dtypes, for example from `jax.eval_shape`, that the file must have
        exactly; None takes what is there.
    """
    try:
        with safetensors.safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a whole safetensors file ({error})") from error
    if like is not None:
        _compare(path, tensors, flatten_dict(like, sep="."))
    return Stored(unflatten_dict(tensors, sep="."), metadata)


def _compare(path: Path, tensors: dict[str, np.ndarray], like: dict[str, Any]) -> None:
    problems = Problems(f"{path} does not fit the model")
    problems.compare_names("tensor", expected=like, got=tensors)
    for name in tensors.keys() & like.keys():
        got, wanted = tensors[name], like[name]
        if got.shape != tuple(wanted.shape):
            problems.add(f"{name} has shape {list(got.shape)}; expected {list(wanted.shape)}")
        if got.dtype != wanted.dtype:
            problems.add(f"{name} has dtype {got.dtype}; expected {wanted.dtype}")
    problems.raise_if_any()
