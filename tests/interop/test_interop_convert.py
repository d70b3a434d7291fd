"""The convert command: there and back without a changed bit, and nothing half done."""

import runpy
from pathlib import Path

import jax
import pytest
import torch

from jaxgraph import config as configs
from jaxgraph.errors import UserError
from jaxgraph.interop.rules.moe import read_checkpoint
from jaxgraph.interop.safetensors import load
from jaxgraph.runs import claim
from jaxgraph.systems import make_task
from jaxgraph.train.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "parity" / "moe" / "p6_checkpoint_ghost.pt"
convert = runpy.run_path(str(ROOT / "scripts" / "convert.py"))["main"]


def run(*args):
    convert([str(arg) for arg in args])


def assert_same_weights(path, other):
    ours, theirs = (torch.load(p, weights_only=True)["model_state_dict"] for p in (path, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", ["", "params.safetensors"])
def test_there_and_back(name, tmp_path, capsys):
    run("to-jax", GOLDEN, tmp_path / "out")
    run("to-torch", tmp_path / "out" / name, tmp_path / "back.pt")
    assert_same_weights(GOLDEN, tmp_path / "back.pt")
    golden, back = read_checkpoint(GOLDEN), read_checkpoint(tmp_path / "back.pt")
    assert back.model == golden.model
    config = configs.load(["--config", str(tmp_path / "out" / "config.yaml")])
    assert config.task.model == golden.model
    assert "weights_only" in capsys.readouterr().out


def refused(*args):
    with pytest.raises(UserError) as caught:
        run(*args)
    return str(caught.value)


def test_misfits_are_listed_and_nothing_is_written(tmp_path):
    content = torch.load(GOLDEN, weights_only=True)
    content["model_state_dict"]["router.weight"] = torch.zeros(2)
    del content["model_state_dict"]["lm_head.bias"]
    torch.save(content, tmp_path / "in.pt")
    message = refused("to-jax", tmp_path / "in.pt", tmp_path / "out")
    assert "missing key lm_head.bias" in message and "unexpected key router.weight" in message
    assert not (tmp_path / "out").exists()
    assert "no such file" in refused("to-jax", tmp_path / "none.pt", tmp_path / "out")


def test_weights_need_the_options_they_are_for(tmp_path):
    run("to-jax", GOLDEN, tmp_path)
    options = tmp_path / "config.yaml"
    text = options.read_text()
    options.write_text(text.replace("num_experts: 3", "num_experts: 4"))
    assert "has shape [3, " in refused("to-torch", tmp_path, tmp_path / "a.pt")
    options.write_text(text.replace("operator: original", "operator: weighted"))
    assert "missing tensor layer_0.coupler.gate" in refused("to-torch", tmp_path, tmp_path / "a.pt")
    options.unlink()
    assert "config.yaml is missing" in refused("to-torch", tmp_path, tmp_path / "a.pt")
    assert not (tmp_path / "a.pt").exists()


def test_a_run_becomes_a_checkpoint(tmp_path):
    options = {"width": 8, "num_heads": 2, "mode": "gnn", "dropout": 0.0, "vocab_size": 300}
    argv = [f"--task.model.{name}={value}" for name, value in options.items()]
    config = configs.load(["--workdir", str(tmp_path / "run"), *argv])
    claim(config)
    state = make_task(config).init(jax.random.key(0))
    with Checkpoints(tmp_path / "run" / "checkpoints", config=configs.to_dict(config)) as saved:
        saved.save(3, state, {"next_batch": 3, "skipped": 0})
    run("to-torch", tmp_path / "run", tmp_path / "a.pt")
    run("to-jax", tmp_path / "a.pt", tmp_path / "out")
    params = load(tmp_path / "out" / "params.safetensors").params
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), params, state.params))
