"""NeuroGraph: our input adapter and the original's (spec/neurograph.md, section 9)."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgraph.errors import UserError
from jaxgraph.interop.torch import as_numpy

PREFIX = "projection."
FIXED = ("W", "b")
"""The variant that is not learnable: one matrix [in, out] and its bias."""


def adapter_from_torch(tensors: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The layers in a state dict: matrices are linear maps, other weights the norm behind one.

    The original numbers activations and dropouts too, so only the order of its numbers counts.

    Raises:
      UserError: the keys are not those of such a network.
    """
    arrays = {key: as_numpy(tensor) for key, tensor in tensors.items()}
    if set(arrays) == set(FIXED):
        return [{"kernel": jnp.asarray(arrays["W"]), "bias": jnp.asarray(arrays["b"])}]
    layers: list[dict[str, Any]] = []
    numbers = sorted({_number(key) for key in arrays})
    for number in numbers:
        try:
            weight, bias = (arrays[f"{PREFIX}{number}.{part}"] for part in ("weight", "bias"))
        except KeyError as error:
            raise UserError(f"missing key {error.args[0]} of the input adapter") from error
        if weight.ndim == 2:
            layers.append({"kernel": jnp.asarray(weight.T), "bias": jnp.asarray(bias)})
        elif layers:
            layers[-1] |= {"scale": jnp.asarray(weight), "shift": jnp.asarray(bias)}
        else:
            raise UserError(f"key {PREFIX}{number}.weight of the input adapter is no matrix")
    return layers


def adapter_to_torch(layers: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """A state dict with the numbers that the original gives: a hidden layer is a map, ReLU, a norm
    if there is one, and a dropout unless it is the last."""
    tensors, number = {}, 0
    for place, layer in enumerate(layers):
        tensors[f"{PREFIX}{number}.weight"] = np.ascontiguousarray(np.asarray(layer["kernel"]).T)
        tensors[f"{PREFIX}{number}.bias"] = np.asarray(layer["bias"])
        number += 2
        if "scale" in layer:
            tensors[f"{PREFIX}{number}.weight"] = np.asarray(layer["scale"])
            tensors[f"{PREFIX}{number}.bias"] = np.asarray(layer["shift"])
            number += 1
        number += place < len(layers) - 2
    return tensors


def _number(key: str) -> int:
    number = key.removeprefix(PREFIX).partition(".")[0]
    if not key.startswith(PREFIX) or not number.isdecimal():
        raise UserError(f"unexpected key {key} of the input adapter")
    return int(number)
