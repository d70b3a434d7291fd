"""What the task asks of its data: sizes, classes, and levels without latents."""

import math

import numpy as np
import pytest

from jaxgraph.data.config import ImagesData, NumbersData, StreamData
from jaxgraph.vae.config import Likelihood, Vae
from jaxgraph.vae.sources import baselines, make_source


class Fixed:
    """Eight coordinates: four fair bits, one that is 1 in a quarter of rows, three constant."""

    inputs = 8

    def packed(self, split):
        rows = np.arange(64)
        bits = np.stack([rows >> i & 1 for i in range(4)], 1)
        rest = np.stack([rows % 64 < 16, rows < 0, rows >= 0, rows < 0], 1)
        return np.packbits(np.concatenate([bits, rest], 1), axis=1, bitorder="little")


def test_levels_without_latents():
    fair = 4 * math.log(2) - 0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    found = baselines(Fixed(), "validation", Likelihood("bernoulli"))
    assert found["constant decoder"] == pytest.approx(fair, abs=1e-4)
    assert found["all bits known"] == 0
    found = baselines(Fixed(), "validation", Likelihood())
    assert found["constant decoder"] - found["all bits known"] == pytest.approx(fair, abs=1e-4)


def test_each_data_set_has_its_classes():
    numbers = make_source(Vae(data=NumbersData(bits=64)))
    assert numbers.inputs == 64 and numbers.class_of == (0, 1, 2, 1, 0, 2)
    images = make_source(Vae(dataset="images", images=ImagesData()))
    assert images.class_of == tuple(range(10))
    live = make_source(Vae(dataset="stream", stream=StreamData(bits=32), data=NumbersData(bits=32)))
    assert live.inputs == 32 and live.batches("train", 0).describe().startswith("grpc://")


def test_numbers_come_in_batches_of_the_task(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGRAPH_ASSETS", str(tmp_path / "assets"))
    source = make_source(Vae(data=NumbersData(bits=32, per_class=40, batch_size=6, validation=0.2)))
    batch = source.batches("validation", 0)[1]
    assert {name: array.shape for name, array in batch.items()} == {
        "bits": (6, 4), "label": (6,), "mask": (6,),
    }  # fmt: skip
    assert "32-bit numbers" in source.describe()["numbers"]
    assert source.packed("validation").shape[1] == 4


def test_a_stream_and_its_pool_have_one_width():
    config = Vae(dataset="stream", stream=StreamData(bits=64))
    [(key, text)] = config.problems()
    assert key == "stream.bits" and "data.bits 256" in text
