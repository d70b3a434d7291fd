"""Checkpoints of LatentWire: into our trees and back to the same bits, strictly."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxgraph.errors import UserError
from jaxgraph.interop.exchange.latentwire import read_folder, write_folder
from jaxgraph.latentwire.adapter import Adapter
from jaxgraph.latentwire.config import Adapter as Options
from jaxgraph.latentwire.config import Encoder, Gist, LatentWire, Losses
from jaxgraph.latentwire.encoder import InterlinguaEncoder
from jaxgraph.latentwire.heads import Coprocessor, DeepPrefix, GistHead, LatentAdapter, Refiner
from tests.latentwire.models import draw

NAMES = ("llama", "qwen")
OPTIONS = Options(
    deep=True, layers=(0, 11), layer_heads=4, coprocessor=2, coprocessor_width=7,
    coprocessor_pool="max", soft_prompt=False,
)  # fmt: skip
GIST = Gist(0.3, tokens=6, layers=2, hidden=18, dropped=0.2)
ENCODER = Encoder(16, shared_slots=4, private_slots=1, refiner=2, refiner_heads=8)
ROOT = Path(__file__).parents[2]
convert = runpy.run_path(str(ROOT / "scripts" / "convert.py"))["main"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint as the original names and shapes it: 4 shared and 1 private slot, width 16."""
    encoder = InterlinguaEncoder(16, 6, 8, 4, 1, NAMES)
    shapes = {"encoder": jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 2), int))}
    z = jnp.zeros((1, 5, 16))
    shapes["refiner"] = jax.eval_shape(Refiner(16, 2, 8).init, jax.random.key(0), z)
    for name, width in zip(NAMES, (12, 20), strict=True):
        adapter = Adapter(16, width, 5)
        shapes[f"adapter_{name}"] = jax.eval_shape(adapter.init, jax.random.key(0), z)
        prefix, prompt = DeepPrefix(width, 5, 2, 2, 4), jnp.zeros((1, 5, width))
        shapes[f"deep_prefix_{name}"] = jax.eval_shape(prefix.init, jax.random.key(0), prompt)
        for part, head in (
            ("coprocessor", Coprocessor(2, 7, (2, 2), 4)), ("gist", GistHead(16, width, 6, 18, 2)),
        ):  # fmt: skip
            shapes[f"{part}_{name}"] = jax.eval_shape(head.init, jax.random.key(0), z)
        block, stream = LatentAdapter(width, 16, 4), jnp.zeros((1, 1, width))
        block = jax.eval_shape(block.init, jax.random.key(0), stream, z)["params"]
        shapes[f"latent_adapters_{name}"] = {"params": {"0": block, "11": block}}
    params = draw({part: tree["params"] for part, tree in shapes.items()})
    path = tmp_path_factory.mktemp("checkpoint")
    task = LatentWire(lms=NAMES, encoder=ENCODER, adapter=OPTIONS, losses=Losses(gist=GIST))
    assert write_folder(path, params, task) == ""
    return path


def test_there_and_back(folder, tmp_path):
    params, task = read_folder(folder)
    assert task.encoder == replace(ENCODER, padding="read") and task.losses.gist == GIST
    assert task.lms == NAMES and task.adapter == OPTIONS
    write_folder(tmp_path, params, task)
    parts = ("adapter", "deep_prefix", "latent_adapters", "coprocessor", "gist")
    for name in ("encoder", "refiner", *(f"{part}_{model}" for part in parts for model in NAMES)):
        ours, theirs = (
            torch.load(path / f"{name}.pt", weights_only=True) for path in (tmp_path, folder)
        )
        assert list(ours) == list(theirs) and all(torch.equal(ours[k], theirs[k]) for k in ours)
    prefix = torch.load(folder / "deep_prefix_llama.pt")
    assert prefix["value_layers.1.weight"].shape == (8, 12)
    assert "11.q_proj.weight" in torch.load(folder / "latent_adapters_llama.pt")
    assert "private_poolers.qwen.cross_attn.in_proj_weight" in torch.load(folder / "encoder.pt")


def test_distributed_runs_prefix_their_keys(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = torch.load(folder / "encoder.pt", weights_only=True)
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "encoder.pt")
    one, two = (read_folder(path)[0]["encoder"]["backbone"] for path in (folder, tmp_path))
    assert np.array_equal(one["embedding"], two["embedding"])


def test_the_command_there_and_back(folder, tmp_path, capsys):
    convert(["to-jax", str(folder), str(tmp_path / "ours")])
    assert "latentwire, read with weights_only" in capsys.readouterr().out
    convert(["to-torch", str(tmp_path / "ours"), str(tmp_path / "back")])
    for path in folder.glob("*.pt"):
        ours, theirs = (torch.load(p / path.name, weights_only=True) for p in (
            tmp_path / "back", folder,
        ))  # fmt: skip
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_what_does_not_fit_is_listed(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = torch.load(folder / "adapter_qwen.pt", weights_only=True)
    del state["mid.bias"]
    torch.save(state | {"odd": torch.zeros(1)}, tmp_path / "adapter_qwen.pt")
    with pytest.raises(UserError, match=r"(?s)missing key mid.bias.*unexpected key odd"):
        read_folder(tmp_path)
    options = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(options | {"encoder_type": "stq"}))
    with pytest.raises(UserError, match="encoder_type of .* is 'stq'"):
        read_folder(tmp_path)
    with pytest.raises(UserError, match="config.json is missing"):
        read_folder(tmp_path / "none")
    (tmp_path / "config.json").write_text(json.dumps(options | {"coprocessor": {"kv_scale": 1}}))
    (tmp_path / "adapter_qwen.pt").write_bytes((folder / "adapter_qwen.pt").read_bytes())
    with pytest.raises(UserError, match="coprocessor.kv_scale of .* is 1; allowed: 0.8"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(options | {"coprocessor": {}, "gist": {}}))
    found = read_folder(tmp_path)[1]
    assert not found.adapter.soft_prompt and found.adapter.coprocessor_pool == "mean"
    assert found.losses.gist.weight == 1 and found.losses.gist.tokens == 6
    (tmp_path / "config.json").write_text(json.dumps(options | {"deep_prefix": {"len": 3}}))
    with pytest.raises(UserError, match="deep_prefix.len of .* is 3; allowed: the 5 slots"):
        read_folder(tmp_path)


def test_other_sizes_than_the_originals_are_told(folder, tmp_path):
    params, task = read_folder(folder)
    note = write_folder(tmp_path, params, replace(task, encoder=replace(task.encoder, heads=4)))
    assert "6 layers of 8 heads" in note and "give it 6, 4 and 4" in note
    assert read_folder(tmp_path)[1].encoder.heads == 4
