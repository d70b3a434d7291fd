"""The original's checkpoints: out and in again, and errors that name what is wrong."""

import jax
import numpy as np
import pytest
import torch

from jaxgraph.errors import UserError
from jaxgraph.interop.exchange import neurograph as exchange
from jaxgraph.interop.rules.neurograph import adapter_to_torch
from jaxgraph.interop.rules.neurograph_config import config_from_torch, config_to_torch
from jaxgraph.neurograph.config.faithful import Accumulate, Adapter, Faithful, Graph, Rule

CONFIG = Faithful(
    graph=Graph(nodes=9, inputs=3, outputs=2, cardinality=2), width=3, phase_bins=16, mag_bins=32,
    adapter=Adapter(hidden=()), rule=Rule(accumulate=Accumulate(steps=4, lr_scaling="linear")),
)  # fmt: skip
RNG = np.random.default_rng(0)


def params(config=CONFIG):
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
    exchange.write(tmp_path / "a.pt", given, CONFIG)
    found, config = exchange.read(tmp_path / "a.pt")
    assert config == CONFIG
    jax.tree.map(np.testing.assert_array_equal, given, found)
    assert found["nodes"]["phase"].dtype == np.int32


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
])
def test_damaged_checkpoints_are_refused(tmp_path, change, words):
    exchange.write(tmp_path / "a.pt", params(), CONFIG)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    change(content)
    torch.save(content, tmp_path / "b.pt")
    with pytest.raises(UserError, match=words):
        exchange.read(tmp_path / "b.pt")


def test_options_that_the_original_lacks_are_refused():
    with pytest.raises(UserError, match="graph.edges is 'forward'"):
        config_to_torch(Faithful(graph=Graph(edges="forward"), rule=Rule(clip=1.0)))
