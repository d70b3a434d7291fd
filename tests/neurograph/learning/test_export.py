"""The export and the jitted graph are one and the same function of integers."""

import json

import jax
import numpy as np
import pytest

from jaxgraph.errors import UserError
from jaxgraph.neurograph.config import Cell, Graph
from jaxgraph.neurograph.export import read_model, write_model
from jaxgraph.neurograph.learning.integers import to_integer_model
from jaxgraph.neurograph.learning.network import Network
from jaxgraph.neurograph.learning.step import make_predict
from tests.neurograph.learning import graphs


@pytest.mark.parametrize("kind", graphs.KINDS)
def test_integers_alone_give_the_scores_of_the_jitted_graph(tmp_path, kind):
    net = graphs.network(kind)
    params = graphs.params(net)
    pixels = np.random.default_rng(1).integers(0, 256, (40, *graphs.SIDE), np.uint8)
    jitted = np.asarray(jax.jit(make_predict(net))(params, pixels))
    assert np.ptp(jitted, axis=0).min() > 100
    size = write_model(tmp_path / "m.npz", to_integer_model(net, params))
    model = read_model(tmp_path / "m.npz")
    found = model.scores(pixels)
    assert found.dtype.kind == "i" and size == (tmp_path / "m.npz").stat().st_size
    np.testing.assert_array_equal(found, jitted)
    np.testing.assert_array_equal(model.predict(pixels), jitted.argmax(1))
    for stored, pair in model.pairs.items():
        layer, name = stored.split("/")
        np.testing.assert_array_equal(pair[0], params[layer][name].phase)
        np.testing.assert_array_equal(pair[1], params[layer][name].mag)


def test_every_array_of_the_file_is_whole_numbers(tmp_path):
    net = graphs.network()
    write_model(tmp_path / "m.npz", to_integer_model(net, graphs.params(net)))
    with np.load(tmp_path / "m.npz") as file:
        assert {file[name].dtype.kind for name in file.files} <= {"i", "u"}
        numbers = json.loads(file["header"].tobytes())
        bits = file["bits"].size * 8
    pairs = sum(int(np.prod(shape)) for shape in numbers["pairs"].values())
    assert pairs * 19 <= bits < pairs * 19 + 8  # 9 bits of phase, 10 of magnitude


def test_damaged_models_are_refused(tmp_path):
    path = tmp_path / "m.npz"
    with pytest.raises(UserError, match="cannot be read as an integer model"):
        read_model(path)
    net = graphs.network()
    write_model(path, to_integer_model(net, graphs.params(net)))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="cannot be read as an integer model"):
        read_model(path)


def test_sums_that_float32_could_not_hold_are_refused():
    with pytest.raises(UserError, match="readout over 20000 messages .* below 2\\^24"):
        Network(Graph("sparse", widths=(20000,)), Cell(), graphs.SIDE, 3)
