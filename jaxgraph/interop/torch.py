"""Parameter trees to and from PyTorch state dicts by a table of rules, strict in both directions.

Every leaf and every key must be covered exactly once; all that is wrong is said in one error.
"""

import pathlib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxgraph.errors import UserError
from jaxgraph.interop.rule import Rule, find_places
from jaxgraph.problems import Problems

Path = str | pathlib.Path
BFLOAT16 = jnp.dtype(jnp.bfloat16)


def to_jax(
    tensors: Mapping[str, Any], like: Any, rules: Sequence[Rule], *, skip: Sequence[str] = ()
) -> Any:
    """Makes a tree of numpy arrays from a state dict.

    Args:
      tensors: numpy arrays or PyTorch tensors by key.
      like: tree of shapes and dtypes to fill, for example from `jax.eval_shape`. A bfloat16 tensor
        fills a bfloat16 or a float32 leaf; every other dtype must agree.
      rules: the system's table.
      skip: shell patterns of keys that have no leaf and need none.
    """
    problems = Problems("the state dict does not fit the model")
    leaves = flatten_dict(like, sep="/")
    places = find_places({path: leaf.shape for path, leaf in leaves.items()}, rules, problems)
    problems.compare_names(
        "key",
        expected=(key for place in places.values() for key in place.keys),
        got=(key for key in tensors if not any(fnmatchcase(key, pattern) for pattern in skip)),
    )
    arrays = {}
    for path, place in places.items():
        for key in place.keys:
            if key in tensors:
                arrays[key] = as_numpy(tensors[key])
                _check(key, arrays[key], place.tensor_shape, leaves[path].dtype, problems)
    problems.raise_if_any()
    tree = {
        path: place.join([arrays[key] for key in place.keys]).astype(leaves[path].dtype)
        for path, place in places.items()
    }
    return unflatten_dict(tree, sep="/")


def to_torch(params: Any, rules: Sequence[Rule]) -> dict[str, np.ndarray]:
    """Makes a state dict of contiguous numpy arrays from a parameter tree."""
    problems = Problems("the parameters do not fit the state dict")
    leaves = flatten_dict(params, sep="/")
    places = find_places({path: np.shape(leaf) for path, leaf in leaves.items()}, rules, problems)
    problems.raise_if_any()
    return {
        key: tensor
        for path, place in places.items()
        for key, tensor in zip(place.keys, place.split(np.asarray(leaves[path])), strict=True)
    }


def load_pt(path: Path) -> Mapping[str, Any]:
    """Reads a `.pt` file: tensors and plain containers only, never code."""
    torch = _torch()
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except Exception as error:  # zip, pickle, end of file: PyTorch has no common error for them
        raise UserError(
            f"{path} is not a checkpoint that PyTorch reads with weights_only=True "
            f"({type(error).__name__}); write it again with torch.save of tensors and plain values"
        ) from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}; expected a dict")
    return content


def save_pt(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a `.pt` file; state dicts in it hold numpy arrays, and become tensors."""
    tensors = {
        name: {key: as_tensor(tensor) for key, tensor in value.items()}
        for name, value in content.items()
        if name.endswith("state_dict")
    }
    _torch().save({**content, **tensors}, path)


def as_numpy(tensor: Any) -> np.ndarray:
    """A PyTorch tensor or an array as a numpy array of the same bits."""
    if not hasattr(tensor, "detach"):
        return np.asarray(tensor)
    tensor = tensor.detach().cpu().contiguous()
    if str(tensor.dtype) == "torch.bfloat16":  # PyTorch refuses to hand it to numpy
        return tensor.view(_torch().int16).numpy().view(BFLOAT16)
    return tensor.numpy()


def as_tensor(array: np.ndarray) -> Any:
    """A contiguous numpy array as a PyTorch tensor of the same bits."""
    torch = _torch()
    array = np.array(array, order="C")
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def has_torch() -> bool:
    """Whether PyTorch can be imported."""
    try:
        _torch()
    except UserError:
        return False
    return True


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            "PyTorch checkpoints need PyTorch: pip install torch (it comes with `make setup`)"
        ) from error
    return torch


def _check(
    key: str, tensor: np.ndarray, shape: tuple[int, ...], dtype: Any, problems: Problems
) -> None:
    if tensor.shape != shape:
        problems.add(f"key {key} has shape {list(tensor.shape)}; expected {list(shape)}")
    widened = tensor.dtype == BFLOAT16 and dtype == np.float32
    if tensor.dtype != dtype and not widened:
        problems.add(f"key {key} has dtype {tensor.dtype}; expected {dtype}")
