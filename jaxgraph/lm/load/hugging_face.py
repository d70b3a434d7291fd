"""A Hugging Face folder: config.json and safetensors, in one file or in shards."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors

from jaxgraph.errors import UserError
from jaxgraph.lm.config import Architecture
from jaxgraph.lm.load.architecture import architecture_of
from jaxgraph.lm.load.json_file import read_object
from jaxgraph.lm.load.params import Tensor, fill_params
from jaxgraph.problems import Problems

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def load_folder(folder: Path, dtype: str | None = None) -> tuple[Architecture, Any]:
    """Architecture and parameters (numpy arrays) of a folder.

    Args:
      dtype: of the parameters; None keeps the files' own.

    Raises:
      UserError: a file is missing or damaged, the index leads out of the folder, or the tensors are
        not those of the configuration; all that differ are listed.
    """
    arch = architecture_of(read_object(folder / "config.json"), folder / "config.json")
    tensors: dict[str, Tensor] = {}
    problems = Problems(f"the shards of {folder} contradict their index")
    files = _files(folder)
    for name, claimed in files.items():
        found = dict(_tensors(folder / name))
        if claimed is not None:
            problems.compare_names(f"tensor in {name}:", expected=claimed, got=found)
        tensors |= found
    problems.raise_if_any()
    return arch, fill_params(arch, tensors, str(folder), dtype)


def _files(folder: Path) -> dict[str, list[str] | None]:
    """Names of the files and what the index says lies in each."""
    if (folder / ONE).exists():
        return {ONE: None}
    if not (folder / INDEX).exists():
        raise UserError(f"{folder} has neither {ONE} nor {INDEX}; only safetensors are read")
    places = read_object(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"{folder / INDEX} has no object `weight_map`")
    files: dict[str, list[str] | None] = {}
    for key, name in places.items():
        # A separator of either system would lead out of the folder somewhere.
        if not isinstance(name, str) or name != PurePath(name).name or "\\" in name:
            raise UserError(f"{folder / INDEX} puts {key} into {name!r}; expected a file name")
        files.setdefault(name, []).append(key)
    return files


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        file = safetensors.safe_open(path, "np")
        for key in file.keys():
            part = file.get_slice(key)
            dtype = jnp.dtype(DTYPES.get(part.get_dtype(), "int8"))
            yield key, Tensor(tuple(part.get_shape()), dtype, partial(_read, path, key))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a whole safetensors file ({error})") from error


def _read(path: Path, key: str) -> np.ndarray:
    with safetensors.safe_open(path, "np") as file:
        return file.get_tensor(key)
