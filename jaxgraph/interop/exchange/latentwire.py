"""Checkpoints of LatentWire: a folder of `encoder.pt`, `adapter_NAME.pt`, perhaps
`deep_prefix_NAME.pt` and `latent_adapters_NAME.pt`, and `config.json`.

The original's encoder has 6 layers, 8 heads and hidden layers 4 times as wide, and its files say
none of it (spec/latentwire.md, section 7.1); layers and widths are read from the tensors, and ours
name the heads. Keys may begin with `module.`, as those of its distributed runs do.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import yaml

from jaxgraph import config as configs
from jaxgraph.errors import UserError
from jaxgraph.interop import safetensors
from jaxgraph.interop.cases import latentwire_parts as parts
from jaxgraph.interop.cases.latentwire import load
from jaxgraph.interop.rules import latentwire as rules
from jaxgraph.interop.torch import as_tensor, load_pt, to_torch
from jaxgraph.latentwire.config import Adapter, Encoder, LatentWire
from jaxgraph.runs import open_run

SIZES = 6, 8, 4
"""Layers, heads and ff_mult of the original's encoder."""
HEADS = SIZES[1]
CONFIG = "config.json"
PARAMS = "params.safetensors"


def read_folder(folder: Path) -> tuple[dict[str, Any], LatentWire]:
    """Parameters of encoder and adapters, and the options that they are for.

    Models go by the original's names; which frozen weights those are it does not say.

    Raises:
      UserError: a file is missing or damaged, or of a kind that is not supported.
    """
    options = _config(folder)
    names = _names(folder)
    tensors = _state(folder / "encoder.pt")
    shared, private = _slots(options, len(names))
    heads = int(options.get("n_heads", HEADS))
    meta = {"n_heads": heads, "shared_len": shared, "private_len": private, "model_keys": names}
    encoder = parts.interlingua(meta, tensors, {})
    ids = {"ids": jnp.zeros((1, 2), jnp.int32)}
    params = {"encoder": load(encoder, rules.interlingua(tuple(names)), tensors, ids)}
    modules = {}
    for name in names:
        tensors = _state(folder / f"adapter_{name}.pt")
        z = {"z": jnp.zeros((1, shared + private, encoder.width))}
        length = {"length_norm": float(max(options.get("max_answer_tokens", 32), 1))}
        modules[name] = parts.adapter(length, tensors, z)
        params[f"adapter_{name}"] = load(modules[name], rules.adapter(), tensors, z)
        if (folder / f"deep_prefix_{name}.pt").exists():
            params[f"deep_prefix_{name}"] = _deep_prefix(folder, options, name, shared + private)
        if (folder / f"latent_adapters_{name}.pt").exists():
            params[f"latent_adapters_{name}"] = _latent_adapters(folder, options, name)
    adapter = modules[names[0]]
    task = LatentWire(
        lms=tuple(names),
        encoder=Encoder(
            width=encoder.width, layers=encoder.layers, heads=heads, ffn_ratio=encoder.ffn_ratio,
            shared_slots=shared, private_slots=private, padding="read",
        ),
        adapter=Adapter(
            hidden_ratio=adapter.hidden_ratio, metadata=adapter.metadata, colour=adapter.colour,
            deep=f"deep_prefix_{names[0]}" in params,
            prefix_width=int(options.get("prefix_width", 0)),
            layers=tuple(map(int, params.get(f"latent_adapters_{names[0]}", ()))),
            layer_heads=_layer_heads(options),
        ),
    )  # fmt: skip
    return jax.device_get(params), task


def write_folder(folder: Path, params: Mapping[str, Any], task: LatentWire) -> str:
    """Writes such a folder.

    Returns:
      What the original's code must be told to read it; empty where its own sizes are those.
    """
    encoder = task.encoder
    names = [key.removeprefix("adapter_") for key in params if key.startswith("adapter_")]
    tables = {"encoder": rules.interlingua(tuple(names))}
    tables |= {f"adapter_{name}": rules.adapter() for name in names}
    if task.adapter.deep:
        tables |= {f"deep_prefix_{name}": rules.deep_prefix() for name in names}
    layers = task.adapter.layers
    if layers:
        blocks = [rule for layer in layers for rule in rules.latent_adapter(*[str(layer)] * 2)]
        tables |= {f"latent_adapters_{name}": blocks for name in names}
    folder.mkdir(parents=True, exist_ok=True)
    for part, table in tables.items():
        _save(folder / f"{part}.pt", to_torch(params[part], table))
    whole = encoder.shared_slots + encoder.private_slots * len(names)
    options = {
        "d_z": encoder.width, "latent_len": whole,
        "latent_shared_len": encoder.shared_slots, "latent_private_len": encoder.private_slots,
        "byte_max": task.data.max_bytes, "encoder_type": "byte",
        "adapter_hidden_mult": task.adapter.hidden_ratio,
        "adapter_colorize": task.adapter.colour, "adapter_enable_metadata": task.adapter.metadata,
        "max_answer_tokens": task.data.max_answer_tokens, "models": names,
        "n_heads": encoder.heads, "prefix_width": task.adapter.prefix_width,
        "use_latent_adapters": bool(layers), "latent_adapter_layers": list(layers),
        "latent_adapter_heads": task.adapter.layer_heads,
        "deep_prefix": {"enabled": task.adapter.deep, "len": encoder.slots, "dropout": 0.0},
    }  # fmt: skip
    (folder / CONFIG).write_text(json.dumps(options, indent=2), encoding="utf-8")
    sizes = encoder.layers, encoder.heads, encoder.ffn_ratio
    if sizes == SIZES:
        return ""
    return "; the original's code builds {} layers of {} heads with ff_mult {}: ".format(
        *SIZES
    ) + "give it {}, {} and {}".format(*sizes)


def to_jax_folder(source: Path, target: Path) -> None:
    """A checkpoint's folder as `params.safetensors` and `config.yaml`."""
    params, task = read_folder(source)
    part = {"lms": list(task.lms)}
    part |= {name: dataclasses.asdict(getattr(task, name)) for name in ("encoder", "adapter")}
    safetensors.save(target / PARAMS, params, {"format": "jaxgraph", "system": "latentwire"})
    text = yaml.safe_dump({"system": "latentwire", "task": part}, sort_keys=False)
    (target / "config.yaml").write_text(text, encoding="utf-8")


def to_torch_folder(source: Path, target: Path) -> str:
    """Such a folder, or a run's best checkpoint, as the original's files; returns what
    `write_folder` does."""
    if (source / "checkpoints").is_dir():
        run = open_run(source)
        return write_folder(target, run.state.params, run.config.task)
    config = configs.load(["--config", str(source / "config.yaml")])
    return write_folder(target, safetensors.load(source / PARAMS).params, config.task)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or no JSON ({error})") from error
    if not isinstance(options, dict):
        raise UserError(f"{path} holds {type(options).__name__}, not an object")
    kind = options.get("encoder_type", "byte")
    if kind != "byte":
        raise UserError(f"encoder_type of {path} is {kind!r}; allowed: byte")
    return options


def _names(folder: Path) -> list[str]:
    """Models with an adapter in the folder, in the original's order."""
    names = sorted(path.stem.removeprefix("adapter_") for path in folder.glob("adapter_*.pt"))
    if not names:
        raise UserError(f"{folder} holds no adapter_NAME.pt; is it a checkpoint of LatentWire?")
    return names


def _slots(options: Mapping[str, Any], models: int) -> tuple[int, int]:
    private = int(options.get("latent_private_len") or 0)
    shared = options.get("latent_shared_len")
    whole = int(options.get("latent_len", 8))
    return (max(whole - private * models, 0) if shared is None else int(shared)), private


def _deep_prefix(folder: Path, options: Mapping[str, Any], name: str, slots: int) -> Any:
    """The prefix generator; heads do not matter to its parameters."""
    stated = options.get("deep_prefix") or {}
    if stated.get("len", slots) != slots:
        raise UserError(
            f"deep_prefix.len of {folder / CONFIG} is {stated['len']}; allowed: the {slots} slots "
            "that a model hears"
        )
    tensors = _state(folder / f"deep_prefix_{name}.pt")
    module = parts.deep_prefix({"num_kv_heads": 1, "prefix_len": slots}, tensors, {})
    prompt = {"prompt": jnp.zeros((1, slots, module.width))}
    return load(module, rules.deep_prefix(), tensors, prompt)


def _latent_adapters(folder: Path, options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The blocks by layer."""
    tensors, found = _state(folder / f"latent_adapters_{name}.pt"), {}
    for layer in sorted({int(key.partition(".")[0]) for key in tensors}):
        start = f"{layer}."
        own = {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}
        module = parts.latent_adapter({"n_heads": _layer_heads(options)}, own, {})
        fed = {"h": jnp.zeros((1, 1, module.width)), "z": jnp.zeros((1, 1, module.latent))}
        found[str(layer)] = load(module, rules.latent_adapter(), own, fed)
    return found


def _layer_heads(options: Mapping[str, Any]) -> int:
    return int(options.get("latent_adapter_heads", HEADS))


def _state(path: Path) -> dict[str, Any]:
    state = load_pt(path)
    return {key.removeprefix("module."): tensor for key, tensor in state.items()}


def _save(path: Path, tensors: Mapping[str, Any]) -> None:
    import torch

    torch.save({key: as_tensor(tensor) for key, tensor in tensors.items()}, path)
