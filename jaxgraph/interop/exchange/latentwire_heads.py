"""The optional files of a LatentWire checkpoint: `refiner.pt`, and for each model
`deep_prefix_NAME.pt`, `coprocessor_NAME.pt`, `latent_adapters_NAME.pt` and `gist_NAME.pt`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jaxgraph.errors import UserError
from jaxgraph.interop.cases import latentwire_parts as parts
from jaxgraph.interop.cases.latentwire import load
from jaxgraph.interop.rule import Rule
from jaxgraph.interop.rules import latentwire as rules
from jaxgraph.interop.torch import load_pt
from jaxgraph.latentwire.config import Gist, LatentWire
from jaxgraph.latentwire.heads import Refiner

HEADS, REFINER_HEADS, SCALE = 8, 4, 0.8
"""Of the original: heads of latent adapters and of the refiner, and what multiplies a
coprocessor's keys and values. Its files do not say them."""
Options = Mapping[str, Any]
Params = dict[str, Any]


def tables(task: LatentWire, names: list[str]) -> dict[str, list[Rule]]:
    """Rules of the optional files that a config asks for, by their names."""
    adapter, found = task.adapter, {}
    if task.encoder.refiner:
        found["refiner"] = rules.refiner()
    if adapter.deep:
        found |= {f"deep_prefix_{name}": rules.deep_prefix() for name in names}
    if adapter.coprocessor:
        found |= {f"coprocessor_{name}": rules.coprocessor() for name in names}
    if adapter.layers:
        layers = map(str, adapter.layers)
        blocks = [rule for layer in layers for rule in rules.latent_adapter(layer, layer)]
        found |= {f"latent_adapters_{name}": blocks for name in names}
    if task.losses.gist.weight:
        found |= {f"gist_{name}": rules.gist() for name in names}
    return found


def options_of(task: LatentWire) -> dict[str, Any]:
    """What `config.json` says of them: the original's keys, and ours where it has none."""
    encoder, adapter, gist = task.encoder, task.adapter, task.losses.gist
    return {
        "prefix_width": adapter.prefix_width, "refiner_heads": encoder.refiner_heads,
        "use_latent_adapters": bool(adapter.layers),
        "latent_adapter_layers": list(adapter.layers),
        "latent_adapter_heads": adapter.layer_heads,
        "deep_prefix": {"enabled": adapter.deep, "len": encoder.slots, "dropout": 0.0},
        "coprocessor": {
            "enabled": bool(adapter.coprocessor), "kv_scale": SCALE, "dropout": 0.0,
            "pool": adapter.coprocessor_pool, "soft_prompt": adapter.soft_prompt,
        },
        "gist": {"weight": gist.weight, "dropped": gist.dropped},
    }  # fmt: skip


def read_refiner(folder: Path, options: Options) -> tuple[Params, dict[str, Any]]:
    """Parameters, and options of `Encoder`; both empty where there is no refiner."""
    path = folder / "refiner.pt"
    if not path.exists():
        return {}, {}
    tensors, heads = state(path), int(options.get("refiner_heads", REFINER_HEADS))
    module = parts.refiner({"num_heads": heads}, tensors, {})
    if module.ffn_ratio != Refiner.ffn_ratio:
        raise UserError(
            f"{path} has hidden layers {module.ffn_ratio} times as wide; allowed: "
            f"{Refiner.ffn_ratio} times"
        )
    z = {"z": jnp.zeros((1, 1, module.width))}
    found = {"refiner": module.layers, "refiner_heads": heads}
    return {"refiner": load(module, rules.refiner(), tensors, z)}, found


def read_heads(
    folder: Path, options: Options, names: list[str], slots: int
) -> tuple[Params, dict[str, Any], Gist]:
    """Parameters, options of `Adapter`, and those of the gist.

    Raises:
      UserError: a file is damaged, or says something that is not supported.
    """
    params: Params = {}
    for name in names:
        if (folder / f"deep_prefix_{name}.pt").exists():
            params[f"deep_prefix_{name}"] = _deep_prefix(folder, options, name, slots)
        if (folder / f"latent_adapters_{name}.pt").exists():
            params[f"latent_adapters_{name}"] = _latent_adapters(folder, options, name)
    first = names[0]
    found = {
        "deep": f"deep_prefix_{first}" in params,
        "prefix_width": int(options.get("prefix_width", 0)),
        "layers": tuple(map(int, params.get(f"latent_adapters_{first}", ()))),
        "layer_heads": _layer_heads(options),
    }
    more, own = _coprocessors(folder, options, names)
    heads, gist = _gists(folder, options, names)
    return params | more | heads, found | own, gist


def state(path: Path) -> dict[str, Any]:
    """A file's tensors, without the prefix of distributed runs."""
    return {key.removeprefix("module."): tensor for key, tensor in load_pt(path).items()}


def _deep_prefix(folder: Path, options: Options, name: str, slots: int) -> Any:
    """The prefix generator; heads do not matter to its parameters."""
    stated = options.get("deep_prefix") or {}
    if stated.get("len", slots) != slots:
        raise UserError(
            f"deep_prefix.len of {folder / 'config.json'} is {stated['len']}; allowed: the {slots} "
            "slots that a model hears"
        )
    tensors = state(folder / f"deep_prefix_{name}.pt")
    module = parts.deep_prefix({"num_kv_heads": 1, "prefix_len": slots}, tensors, {})
    prompt = {"prompt": jnp.zeros((1, slots, module.width))}
    return load(module, rules.deep_prefix(), tensors, prompt)


def _coprocessors(
    folder: Path, options: Options, names: list[str]
) -> tuple[Params, dict[str, Any]]:
    """As the refiner's; heads do not matter here either."""
    stated, params, found = options.get("coprocessor") or {}, {}, {}
    for name in names:
        path = folder / f"coprocessor_{name}.pt"
        if not path.exists():
            continue
        if stated.get("kv_scale", SCALE) != SCALE:
            raise UserError(
                f"coprocessor.kv_scale of {folder / 'config.json'} is {stated['kv_scale']}; "
                f"allowed: {SCALE}"
            )
        tensors, pool = state(path), stated.get("pool", "mean")
        rows, hidden = tensors["token_proj.weight"].shape
        meta = {"head_dim": 1, "kv_len": rows // hidden, "kv_scale": SCALE, "pool": pool}
        module = parts.coprocessor(meta, tensors, {})
        z = {"z": jnp.zeros((1, 1, len(tensors["layer_norm.weight"])))}
        params[f"coprocessor_{name}"] = load(module, rules.coprocessor(), tensors, z)
        found = {
            "coprocessor": module.slots, "coprocessor_width": hidden, "coprocessor_pool": pool,
            "soft_prompt": bool(stated.get("soft_prompt", False)),
        }  # fmt: skip
    return params, found


def _latent_adapters(folder: Path, options: Options, name: str) -> dict[str, Any]:
    """The blocks by layer."""
    tensors, found = state(folder / f"latent_adapters_{name}.pt"), {}
    for layer in sorted({int(key.partition(".")[0]) for key in tensors}):
        start = f"{layer}."
        own = {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}
        module = parts.latent_adapter({"n_heads": _layer_heads(options)}, own, {})
        fed = {"h": jnp.zeros((1, 1, module.width)), "z": jnp.zeros((1, 1, module.latent))}
        found[str(layer)] = load(module, rules.latent_adapter(), own, fed)
    return found


def _gists(folder: Path, options: Options, names: list[str]) -> tuple[Params, Gist]:
    """Heads and sizes; a weight that the folder does not say is 1."""
    stated, params, gist = options.get("gist") or {}, {}, Gist()
    for name in names:
        path = folder / f"gist_{name}.pt"
        if not path.exists():
            continue
        tensors = state(path)
        module = parts.gist({}, tensors, {})
        z = {"z": jnp.zeros((1, 1, module.width))}
        params[f"gist_{name}"] = load(module, rules.gist(), tensors, z)
        gist = Gist(
            weight=float(stated.get("weight", 1.0)), tokens=module.targets, layers=module.layers,
            hidden=module.hidden, dropped=float(stated.get("dropped", Gist.dropped)),
        )  # fmt: skip
    return params, gist


def _layer_heads(options: Options) -> int:
    return int(options.get("latent_adapter_heads", HEADS))
