"""The original's checkpoints: out and in again, and errors that name what is wrong."""

import runpy
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import torch

from jaxgraph import config as configs
from jaxgraph.errors import UserError
from jaxgraph.interop.exchange import neurograph as exchange
from jaxgraph.interop.rules.neurograph import adapter_to_torch
from jaxgraph.interop.rules.neurograph_config import config_from_torch, config_to_torch
from jaxgraph.interop.safetensors import load
from jaxgraph.neurograph.config import NeuroGraph
from jaxgraph.neurograph.config.faithful import Accumulate, Adapter, Balance, Faithful, Graph, Rule
from jaxgraph.runs import claim
from jaxgraph.systems import make_task
from jaxgraph.train.checkpoint import Checkpoints

CONFIG = Faithful(
    graph=Graph(nodes=9, inputs=3, outputs=2, cardinality=2), width=3, phase_bins=16, mag_bins=32,
    adapter=Adapter(pixels=5, hidden=()), classes=4,
    rule=Rule(accumulate=Accumulate(steps=4, lr_scaling="linear")),
)  # fmt: skip
TASK = NeuroGraph(mode="faithful", faithful=CONFIG)
convert = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "convert.py"))["main"]
RNG = np.random.default_rng(0)


def params():
    draw = lambda rows, bins: RNG.integers(0, bins, (rows, 3)).astype(np.int32)  # noqa: E731
    return {
        "nodes": {"phase": draw(9, 16), "mag": draw(9, 32)},
        "codes": {"phase": draw(4, 16), "mag": draw(4, 32)},
        "adapter": {
            "layer_0": {
                "kernel": RNG.normal(size=(5, 18)).astype(np.float32),
                "bias": np.zeros(18, np.float32),
            }
        },
    }


def test_out_and_in_again(tmp_path):
    given = params()
    exchange.write(tmp_path / "a.pt", given, TASK)
    found, task = exchange.read(tmp_path / "a.pt")
    assert task == TASK
    jax.tree.map(np.testing.assert_array_equal, given, found)
    assert found["nodes"]["phase"].dtype == np.int32


def run(*args):
    convert([str(arg) for arg in args])


def same_files(path, other):
    ours, theirs = (torch.load(p, weights_only=True) for p in (path, other))
    equal = jax.tree.map(
        lambda a, b: torch.equal(a, b) if torch.is_tensor(a) else a == b, ours, theirs
    )
    return jax.tree.all(equal)


def test_the_command_converts_both_ways_without_a_changed_bit(tmp_path, capsys):
    exchange.write(tmp_path / "a.pt", params(), TASK)
    run("to-jax", tmp_path / "a.pt", tmp_path / "out")
    assert "(neurograph, read with weights_only)" in capsys.readouterr().out
    assert configs.load(["--config", str(tmp_path / "out" / "config.yaml")]).task == TASK
    run("to-torch", tmp_path / "out", tmp_path / "b.pt")
    assert same_files(tmp_path / "a.pt", tmp_path / "b.pt")
    options = tmp_path / "out" / "config.yaml"
    text = options.read_text()
    for change, words in (
        (("pixels: 5", "pixels: 0"), "leaves task.faithful.adapter.pixels to the data"),
        (("nodes: 9", "nodes: 8"), r"nodes.mag has shape \[9, 3\]; expected \[8, 3\]"),
        (("mode: faithful", "mode: learning"), "nothing like 'learning'; allowed: faithful"),
    ):
        options.write_text(text.replace(*change))
        with pytest.raises(UserError, match=words):
            run("to-torch", tmp_path / "out", tmp_path / "c.pt")
    assert not (tmp_path / "c.pt").exists()


@pytest.mark.parametrize("mode", ["faithful", "learning"])
def test_a_run_becomes_a_checkpoint_if_the_original_can_read_it(tmp_path, mode):
    options = ("--task.mode", mode, "--task.faithful.graph.nodes", "30",
               "--task.faithful.graph.inputs", "4")  # fmt: skip
    config = configs.load(
        ["--config", "configs/smoke/neurograph.yaml", "--workdir", str(tmp_path / "run"), *options]
    )
    claim(config)
    state = jax.jit(make_task(config).init)(jax.random.key(0))
    with Checkpoints(tmp_path / "run" / "checkpoints", config=configs.to_dict(config)) as saved:
        saved.save(3, state, {"next_batch": 3, "skipped": 0})
    if mode == "learning":
        with pytest.raises(UserError, match="convert.py neurograph --integer"):
            run("to-torch", tmp_path / "run", tmp_path / "a.pt")
        return
    run("to-torch", tmp_path / "run", tmp_path / "a.pt")
    run("to-jax", tmp_path / "a.pt", tmp_path / "out")
    found = load(tmp_path / "out" / "params.safetensors").params
    jax.tree.map(np.testing.assert_array_equal, found, state.params)
    read = configs.load(["--config", str(tmp_path / "out" / "config.yaml")]).task.faithful
    assert (read.adapter.pixels, read.classes) == (64, 10)


def test_the_numbers_of_a_deep_adapter_are_the_originals():
    hidden = {name: np.zeros(4) for name in ("bias", "scale", "shift")}
    layer = hidden | {"kernel": np.zeros((4, 4))}
    last = {"kernel": np.zeros((4, 6)), "bias": np.zeros(6)}
    keys = adapter_to_torch([layer, layer, last], dropout=True)
    numbers = sorted({int(key.split(".")[1]) for key in keys})
    assert numbers == [0, 2, 4, 6, 7]  # as in the golden case `adp_mlp`
    plain = {name: layer[name] for name in ("kernel", "bias")}
    keys = adapter_to_torch([plain, plain, last], dropout=False)
    assert sorted({int(key.split(".")[1]) for key in keys}) == [0, 2, 4]  # as in `adp_mlpnone`


def test_defaults_are_those_of_the_originals_code():
    config = config_from_torch({
        "architecture": {"input_nodes": 200, "output_nodes": 10},
        "graph_structure": {"cardinality": 6},
    })
    assert (config.dynamics.top_k, config.dynamics.max_timesteps) == (4, 35)
    assert config_from_torch(config_to_torch(Faithful())) == Faithful()


@pytest.mark.parametrize("change, words", [
    (lambda c: c["node_store_state"]["mag_table"].pop("n3"), "missing mag_table of node n3"),
    (lambda c: c.pop("class_encodings"), "missing entry class_encodings"),
    (lambda c: c["node_store_state"]["phase_table"]["n0"].fill_(16), "leaves its 16 bins"),
    (lambda c: c["config"]["architecture"].pop("input_nodes"), "input_nodes is missing"),
    (lambda c: c["class_encodings"].pop(2), "missing class 2"),
    (lambda c: c["config"]["input_processing"].update(input_dim=6),
     r"adapter.layer_0.kernel has shape \[5, 18\]; the config says \[6, 18\]"),
    (lambda c: c["config"]["architecture"].update(vector_dim=4),
     r"codes.phase has shape \[4, 3\]; the config says \[4, 4\]"),
])
def test_damaged_checkpoints_are_refused(tmp_path, change, words):
    exchange.write(tmp_path / "a.pt", params(), TASK)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    change(content)
    torch.save(content, tmp_path / "b.pt")
    with pytest.raises(UserError, match=words):
        exchange.read(tmp_path / "b.pt")


def test_options_that_the_original_lacks_are_refused():
    with pytest.raises(UserError, match="graph.edges is 'forward'"):
        config_to_torch(Faithful(graph=Graph(edges="forward"), rule=Rule(clip=1.0)))
    balanced = replace(CONFIG, rule=Rule(balance=Balance("quota")))
    with pytest.raises(UserError, match="rule.balance.strategy is 'quota'; the original has 'off'"):
        config_to_torch(balanced)
