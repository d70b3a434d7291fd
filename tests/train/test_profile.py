"""A traced run leaves what TensorBoard's profiler opens; the others leave nothing."""

from jaxgraph.train.config import Parallel, Train
from jaxgraph.train.loop import fit
from tests.train import toy


def test_a_trace_of_some_steps(tmp_path):
    config = Train(steps=6, profile=3, eval_every=6, save_every=6, progress="off")
    traced = fit(toy.Toy(), config, tmp_path / "a", parallel=Parallel(data=1))
    # plugins/profile/TIME/HOST.xplane.pb is where the plugin looks.
    path = next((tmp_path / "a" / "profile").rglob("*.xplane.pb"))
    assert path.parts[-4:-2] == ("plugins", "profile")
    assert b"step_num" in path.read_bytes()
    plain = Train(steps=6, eval_every=6, save_every=6, progress="off")
    assert toy.same(
        fit(toy.Toy(), plain, tmp_path / "b", parallel=Parallel(data=1)).state, traced.state
    )
    assert not (tmp_path / "b" / "profile").exists()
