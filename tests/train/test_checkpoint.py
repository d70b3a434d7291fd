"""Checkpoints: what comes back, which are kept, what happens to damaged ones."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxgraph.errors import UserError
from jaxgraph.train.checkpoint import Checkpoints, as_template
from jaxgraph.train.config import Parallel
from jaxgraph.train.parallel import make_mesh
from jaxgraph.train.placement import make_shardings
from tests.train import toy


def fresh(step=0):
    task = toy.Toy()
    state = jax.jit(task.init)(jax.random.key(3))
    return state.replace(step=jnp.asarray(step), extra={"mean_y": jnp.float32(step / 7)})


def template(devices=1):
    mesh = make_mesh(Parallel(data=devices))
    shapes = jax.eval_shape(fresh)
    return as_template(shapes, make_shardings(mesh, shapes))


def save_steps(folder, losses, **options):
    with Checkpoints(folder, **options) as checkpoints:
        for step, loss in losses.items():
            checkpoints.save(step, fresh(step), {"next_batch": step, "skipped": 0}, loss)
        checkpoints.wait()
        return checkpoints.steps, checkpoints.best_step


def restore(folder, step=None, devices=1):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(template(devices), step)


def test_everything_comes_back_bit_for_bit(tmp_path):
    config = {"seed": 3, "task": {"lr": 1e-5}}
    save_steps(tmp_path / "c", {4: 1.0}, config=config)
    state, position = restore(tmp_path / "c")
    assert toy.same(state, fresh(4)) and position == {"next_batch": 4, "skipped": 0}
    assert jax.tree.structure(state) == jax.tree.structure(fresh())
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.config_of(4) == config


def test_the_newest_and_the_best_are_kept(tmp_path):
    losses = {2: 3.0, 4: 1.0, 6: 2.0, 8: float("nan"), 10: None}
    steps, best = save_steps(tmp_path / "c", losses, keep_latest=3, keep_best=1)
    assert steps == [4, 6, 8, 10] and best == 4
    sealed = sorted(int(path.stem) for path in (tmp_path / "c_checksums").iterdir())
    assert sealed == steps


def test_an_empty_folder_restores_nothing(tmp_path):
    assert restore(tmp_path / "c") is None


@pytest.mark.parametrize("saved, restored", [(8, 1), (8, 4), (1, 8)])
def test_restores_onto_another_number_of_devices(tmp_path, saved, restored):
    mesh = make_mesh(Parallel(data=saved))
    state = jax.device_put(fresh(5), NamedSharding(mesh, PartitionSpec()))
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(5, state, {"next_batch": 5, "skipped": 0})
    found, _ = restore(tmp_path / "c", devices=restored)
    assert toy.same(found, state)
    assert len(found.params["head"].sharding.device_set) == restored


def damage(folder, how):
    """Harms each file of a checkpoint in turn; yields its name, then mends it."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size):
        whole = path.read_bytes()
        if how == "cut":
            path.write_bytes(whole[: len(whole) // 2])
        elif how == "flip":
            path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 0x40]) + whole[-2:])
        else:
            path.unlink()
        yield path.name, path, whole


@pytest.mark.parametrize("how", ["cut", "flip", "gone"])
def test_the_newest_intact_step_wins_whichever_file_is_damaged(tmp_path, how, capsys):
    save_steps(tmp_path / "c", {2: 1.0, 4: 0.5})
    for name, path, whole in damage(tmp_path / "c" / "4", how):
        state, position = restore(tmp_path / "c")
        assert position["next_batch"] == 2 and toy.same(state, fresh(2)), name
        aside = tmp_path / "c_damaged" / "4"
        assert "warning: checkpoint 4" in capsys.readouterr().err and aside.exists()
        # Mend it for the next file: nothing was deleted, only moved.
        aside.rename(tmp_path / "c" / "4")
        path.write_bytes(whole)
        with Checkpoints(tmp_path / "c") as checkpoints:
            checkpoints._seal(4)
    state, position = restore(tmp_path / "c")
    assert position["next_batch"] == 4


def test_a_damaged_step_without_checksums_is_found_when_it_is_read(tmp_path, capsys):
    """As after a kill between the end of a save and its checksums."""
    save_steps(tmp_path / "c", {2: 1.0, 4: 0.5})
    (tmp_path / "c_checksums" / "4.json").unlink()
    for path in (tmp_path / "c" / "4" / "state").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:100])
    _, position = restore(tmp_path / "c")
    assert position["next_batch"] == 2 and "cannot be read" in capsys.readouterr().err


def test_asking_for_a_step_that_cannot_be_read_is_an_error(tmp_path):
    save_steps(tmp_path / "c", {2: 1.0})
    with pytest.raises(UserError, match="checkpoint 7"):
        restore(tmp_path / "c", step=7)


def test_a_reader_leaves_the_folder_alone(tmp_path):
    save_steps(tmp_path / "c", {2: 1.0})
    unfinished = tmp_path / "c" / "4.orbax-checkpoint-tmp"
    unfinished.mkdir()
    with Checkpoints(tmp_path / "c", read_only=True) as checkpoints:
        assert checkpoints.steps == [2]
    assert unfinished.exists()
