"""Mixture VAE: our parameters and the original's checkpoints (spec/vae.md, section 8)."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax

from jaxgraph.errors import UserError
from jaxgraph.interop.rule import LINEAR, Rule
from jaxgraph.interop.torch import Path, as_numpy, load_pt, to_jax, to_torch
from jaxgraph.vae.config import Model
from jaxgraph.vae.model import MixtureVae, init_params
from jaxgraph.vae.widths import model_widths

TRUNKS = {"real": ("encoder.net", "decoder.net"), "complex": ("enc_layers", "dec_layers")}
COMPLEX = {
    "real_bias": "c", "imag_bias": "d", "real_kernel": "A.weight", "bias": "A.bias",
    "imag_kernel": "B.weight",
}  # fmt: skip
"""In the order of the original's keys."""


class Places(NamedTuple):
    """Places of a trunk's layers in the original's list of modules."""

    linear: list[int]
    norm: list[int]


def rules(model: Model, tensors: Mapping[str, Any] | None = None) -> list[Rule]:
    """The table of a model, in the order of the original's keys.

    The original counts activations, norms and dropouts as it counts linear maps, so its numbers
    depend on options. Those of `tensors` are taken in rising order, whatever the options say, if
    there are as many as there are layers; else, and without tensors, they follow from the options.
    """
    sizes, head = model_widths(model), "_" if model.kind == "free_bits" else ""
    family = "complex" if model.kind == "complex" else "real"
    heads, trunks = [], []
    for ours, theirs, widths in (
        ("encoder", TRUNKS[family][0], sizes.encoder),
        ("decoder", TRUNKS[family][1], sizes.decoder),
    ):
        found = _found(theirs, family, tensors or {})
        normed = family == "real" and model.layernorm
        if (len(found.linear), len(found.norm)) != (len(widths), len(widths) * normed):
            found = _counted(model, len(widths))
        trunks.append([
            rule for i in range(len(widths)) for rule in _layer(ours, theirs, family, found, i)
        ])
        heads.append(_linear(f"{ours}_head", f"{head}{ours[:3]}_head"))
    if family == "complex":
        return [*trunks[0], *trunks[1], *heads[0], *heads[1]]
    return [*trunks[0], *heads[0], *trunks[1], *heads[1]]


def params_from_torch(model: Model, tensors: Mapping[str, Any]) -> Any:
    """The parameters in a state dict.

    Raises:
      UserError: tensors are missing, unexpected or misshapen; all of them are listed.
    """
    return to_jax(tensors, shapes_of(model), rules(model, tensors))


def params_to_torch(model: Model, params: Any) -> dict[str, Any]:
    """A state dict of numpy arrays, in the original's order."""
    table = rules(model)
    tensors = to_torch(params, table)
    return {rule.key: tensors[rule.key] for rule in table}


def shapes_of(model: Model) -> Any:
    """Shapes and dtypes of a model's parameters: what `to_jax` fills."""
    return jax.eval_shape(partial(init_params, MixtureVae(model)), jax.random.key(0))


class Checkpoint(NamedTuple):
    """A checkpoint of the original."""

    config: dict[str, Any]
    tensors: Mapping[str, Any]


def is_checkpoint(content: Mapping[str, Any]) -> bool:
    """Whether the content of a `.pt` file is one of the original's VAE."""
    return "state_dict" in content and "cfg" in content


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a `.pt` of the original, whose name its training gave: `epoch_..._(BEST).pt`."""
    content = load_pt(path)
    if not is_checkpoint(content):
        names = ", ".join(map(str, content))
        raise UserError(f"{path} has no `state_dict` and `cfg`; it has {names}")
    for name in ("state_dict", "cfg"):
        if not isinstance(content[name], Mapping):
            raise UserError(f"{name} of {path} is not an object")
    return Checkpoint(dict(content["cfg"]), content["state_dict"])


def _layer(ours: str, theirs: str, family: str, found: Places, i: int) -> list[Rule]:
    path, key = f"{ours}/layer_{i}", f"{theirs}.{found.linear[i]}"
    if family == "complex":
        return [
            Rule(f"{path}/linear/{name}", f"{key}.{part}", *([LINEAR] * name.endswith("kernel")))
            for name, part in COMPLEX.items()
        ]
    table = _linear(f"{path}/linear", key)
    if found.norm:
        norm = f"{theirs}.{found.norm[i]}"
        table += [Rule(f"{path}/norm/scale", f"{norm}.weight")]
        table += [Rule(f"{path}/norm/bias", f"{norm}.bias")]
    return table


def _linear(path: str, key: str) -> list[Rule]:
    return [Rule(f"{path}/kernel", f"{key}.weight", LINEAR), Rule(f"{path}/bias", f"{key}.bias")]


def _found(trunk: str, family: str, tensors: Mapping[str, Any]) -> Places:
    """The numbers in a state dict: of maps by their matrices, of norms by their vectors."""
    axes: dict[int, int] = {}
    for key, tensor in tensors.items():
        number, _, part = key.removeprefix(f"{trunk}.").partition(".")
        if key.startswith(f"{trunk}.") and number.isdecimal() and part.endswith("weight"):
            axes[int(number)] = as_numpy(tensor).ndim
    linear = sorted(number for number, ndim in axes.items() if ndim == 2)
    return Places(linear, sorted(number for number, ndim in axes.items() if ndim == 1))


def _counted(model: Model, layers: int) -> Places:
    """The numbers that the original gives under these options."""
    normed = model.kind != "complex" and model.layernorm
    stride = 2 + normed + (model.dropout > 0)
    linear = [i * stride for i in range(layers)]
    return Places(linear, [i + 1 for i in linear] if normed else [])
