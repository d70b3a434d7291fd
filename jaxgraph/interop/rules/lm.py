"""Frozen language models: our parameters and Hugging Face's names (jaxgraph/lm/load/names.py)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxgraph.interop.rule import LINEAR, SAME, Rule
from jaxgraph.interop.torch import to_jax, to_torch
from jaxgraph.lm.config import Architecture
from jaxgraph.lm.llama import Llama
from jaxgraph.lm.load.names import table


def rules(arch: Architecture) -> list[Rule]:
    """The table of a model; layers are stacked here."""
    return [
        Rule(name.path, name.key, LINEAR if name.transposed else SAME) for name in table(arch)
    ]


def params_from_torch(arch: Architecture, tensors: Mapping[str, Any]) -> Any:
    """The parameters in a state dict.

    Raises:
      UserError: tensors are missing, unexpected or misshapen; all of them are listed.
    """
    return to_jax(tensors, shapes_of(arch), rules(arch))


def params_to_torch(arch: Architecture, params: Any) -> dict[str, Any]:
    """A state dict of numpy arrays; a tied head is not in it twice."""
    return to_torch(params, rules(arch))


def shapes_of(arch: Architecture) -> Any:
    """Shapes and dtypes of a model's parameters."""
    init = partial(Llama(arch).init, inputs=jnp.zeros((1, 1), jnp.int32))
    return jax.eval_shape(init, jax.random.key(0))["params"]
