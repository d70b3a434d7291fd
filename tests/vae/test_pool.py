"""Training rows that live on the device: the same batches, no transfer in a call, exact resume."""

import jax
import numpy as np
import pytest

from jaxgraph.data.config import ImagesData, NumbersData
from jaxgraph.data.numbers import load_numbers, number_batches
from jaxgraph.data.rows import row_numbers
from jaxgraph.train.config import Parallel, Train
from jaxgraph.train.loop import fit
from jaxgraph.train.step import scan_steps
from jaxgraph.vae.config import Vae
from jaxgraph.vae.sources import ImageSource, make_source
from tests.train import toy
from tests.vae import models
from tests.vae.test_task import FakeSource, make, start

POOL = models.batch(60, seed=3)


class PoolSource(FakeSource):
    def pool(self):
        return {"bits": POOL["bits"], "label": POOL["label"]}

    def batches(self, split, seed):
        if split == "train":
            return row_numbers(60, batch_size=12, seed=seed)
        return models.Batches(2, start=1000)


@pytest.fixture(scope="module")
def task():
    made = make()
    made.source = PoolSource()
    return made


def bits_of(batch):
    """The batch as it would be without a pool."""
    rows = {name: POOL[name][batch["row"]] for name in ("bits", "label")}
    return rows | {"mask": batch["mask"]}


def test_row_numbers_are_those_that_the_host_would_take(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGRAPH_ASSETS", str(tmp_path / "assets"))
    config = NumbersData(bits=32, per_class=40, batch_size=7, validation=0.2)
    source = make_source(Vae(data=config))
    pool, found = source.pool(), source.batches("train", 5)
    wanted = number_batches(load_numbers(config), "train", batch_size=7, seed=5)
    for i in (0, 1, 30):  # beyond the first epoch
        batch = found[i]
        assert batch["row"].dtype == np.int32
        for name in ("bits", "label"):
            assert (pool[name][batch["row"]] == wanted[i][name]).all()
    assert source.batches("validation", 5)[0].keys() == {"bits", "label", "mask"}


def test_pixels_that_are_drawn_anew_stay_on_the_host(monkeypatch):
    packed = np.zeros((9, 2), np.uint8)
    monkeypatch.setattr(ImageSource, "packed", lambda self, split: packed)
    monkeypatch.setattr(ImageSource, "labels", lambda self, split: np.zeros(9, np.int32))
    static, dynamic = (ImageSource(ImagesData(binarise=b)) for b in ("static", "dynamic"))
    assert static.pool()["bits"] is packed and dynamic.pool() is None
    assert static.batches("train", 0)[0].keys() == {"row", "mask"}


def test_a_call_takes_its_rows_off_the_device(task):
    batches = [task.batches("train")[i] for i in range(3)]
    state, frozen = start(task), task.frozen()
    assert task.frozen() is frozen
    many = jax.jit(scan_steps(task.train_step, 3))
    stacked = jax.device_put(jax.tree.map(lambda *x: np.stack(x), *batches))
    many(state, frozen, stacked)  # constants of the program travel once, when it is compiled
    with jax.transfer_guard("disallow"):
        found, metrics = many(state, frozen, stacked)
        jax.block_until_ready((found, metrics))
    as_bits = jax.device_put(jax.tree.map(lambda *x: np.stack(x), *map(bits_of, batches)))
    wanted, _ = many(state, None, as_bits)
    assert toy.close(found.params, wanted.params)


def test_a_resumed_run_on_several_devices_ends_with_the_same_bits(task, tmp_path):
    ended = []
    for folder, stops in (("whole", [20]), ("parts", [10, 20])):
        for steps in stops:
            config = Train(
                steps=steps, steps_per_call=5, eval_every=10, save_every=10, progress="off"
            )
            result = fit(task, config, tmp_path / folder, parallel=Parallel(data=2))
        ended.append(result.state)
    assert toy.same(*ended) and int(ended[0].step) == 20
