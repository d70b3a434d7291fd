"""Parameters out of tensors by name, one tensor in memory at a time."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from jaxgraph.lm.config import Architecture
from jaxgraph.lm.load.names import is_derived, keys_of, shapes, table
from jaxgraph.problems import Problems


class Tensor(NamedTuple):
    """A tensor that is read when it is needed."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


def fill_params(
    arch: Architecture, tensors: Mapping[str, Tensor], where: str, dtype: str | None = None
) -> Any:
    """The parameters of a model as numpy arrays.

    Args:
      tensors: by their Hugging Face names, matrices as [out, in].
      where: what the tensors come from, for errors.
      dtype: of the parameters; None keeps each tensor's own.

    Raises:
      UserError: tensors are missing, unexpected or misshapen; all of them are listed.
    """
    expected = shapes(arch)
    problems = Problems(f"{where} does not fit its configuration")
    given = {key: tensor for key, tensor in tensors.items() if not is_derived(key, arch)}
    problems.compare_names("tensor", expected=expected, got=given)
    for key in sorted(expected.keys() & given.keys()):
        if given[key].shape != expected[key]:
            problems.add(
                f"{key} has shape {list(given[key].shape)}; expected {list(expected[key])}"
            )
        if not jnp.issubdtype(given[key].dtype, jnp.floating):
            problems.add(f"{key} has dtype {given[key].dtype}; expected floats")
    problems.raise_if_any()
    leaves = {}
    for name in table(arch):
        keys = keys_of(name, arch)
        wanted = jnp.dtype(dtype) if dtype else jnp.result_type(*(given[k].dtype for k in keys))
        shape = expected[keys[0]][:: -1 if name.transposed else 1]
        leaf = np.empty((len(keys), *shape), wanted)
        for place, key in zip(leaf, keys, strict=True):
            tensor = given[key].read()
            place[...] = tensor.T if name.transposed else tensor
        leaves[name.path] = leaf if "{i}" in name.key else leaf[0]
    return unflatten_dict(leaves, sep="/")
