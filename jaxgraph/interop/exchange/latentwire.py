"""Checkpoints of LatentWire: a folder of `encoder.pt`, `adapter_NAME.pt`, optional files of
`latentwire_heads`, and `config.json`.

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
from jaxgraph.interop.exchange import latentwire_heads as heads_of
from jaxgraph.interop.rules import latentwire as rules
from jaxgraph.interop.torch import as_tensor, to_torch
from jaxgraph.latentwire.config import Adapter, Encoder, LatentWire, Losses
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
    tensors = heads_of.state(folder / "encoder.pt")
    shared, private = _slots(options, len(names))
    heads = int(options.get("n_heads", HEADS))
    meta = {"n_heads": heads, "shared_len": shared, "private_len": private, "model_keys": names}
    encoder = parts.interlingua(meta, tensors, {})
    ids = {"ids": jnp.zeros((1, 2), jnp.int32)}
    params = {"encoder": load(encoder, rules.interlingua(tuple(names)), tensors, ids)}
    modules = {}
    for name in names:
        tensors = heads_of.state(folder / f"adapter_{name}.pt")
        z = {"z": jnp.zeros((1, shared + private, encoder.width))}
        length = {"length_norm": float(max(options.get("max_answer_tokens", 32), 1))}
        modules[name] = parts.adapter(length, tensors, z)
        params[f"adapter_{name}"] = load(modules[name], rules.adapter(), tensors, z)
    refiner, refined = heads_of.read_refiner(folder, options)
    more, found, gist = heads_of.read_heads(folder, options, names, shared + private)
    params |= refiner | more
    adapter = modules[names[0]]
    task = LatentWire(
        lms=tuple(names),
        encoder=Encoder(
            width=encoder.width, layers=encoder.layers, heads=heads, ffn_ratio=encoder.ffn_ratio,
            shared_slots=shared, private_slots=private, padding="read", **refined,
        ),
        adapter=Adapter(
            hidden_ratio=adapter.hidden_ratio, metadata=adapter.metadata, colour=adapter.colour,
            **found,
        ),
        losses=Losses(gist=gist),
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
    tables |= heads_of.tables(task, names)
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
        "n_heads": encoder.heads,
    } | heads_of.options_of(task)  # fmt: skip
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
    part["losses"] = {"gist": dataclasses.asdict(task.losses.gist)}
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


def _save(path: Path, tensors: Mapping[str, Any]) -> None:
    import torch

    torch.save({key: as_tensor(tensor) for key, tensor in tensors.items()}, path)
