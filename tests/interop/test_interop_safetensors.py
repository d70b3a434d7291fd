"""Parameter files: the right bytes, and words for every damage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch

from jaxgraph.errors import UserError
from jaxgraph.interop.safetensors import load, save

TREE = {
    "layer_0": {"up": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}},
    "head": {"bias": jnp.ones(4, jnp.bfloat16), "count": np.int32(3)},
}
LIKE = jax.eval_shape(lambda: TREE)


@pytest.fixture
def path(tmp_path):
    save(tmp_path / "runs" / "a.safetensors", TREE, {"system": "moe"})
    return tmp_path / "runs" / "a.safetensors"


def test_round_trip(path):
    params, metadata = load(path, LIKE)
    jax.tree.map(np.testing.assert_array_equal, params, TREE)
    assert jax.tree.map(lambda x: x.dtype, params) == jax.tree.map(lambda x: x.dtype, TREE)
    assert metadata == {"system": "moe"}
    assert [file.name for file in path.parent.iterdir()] == ["a.safetensors"]


def test_transposed_views_are_stored_as_they_look(tmp_path):
    view = np.arange(6, dtype=np.float32).reshape(2, 3).T
    save(tmp_path / "a", {"kernel": view})
    np.testing.assert_array_equal(load(tmp_path / "a").params["kernel"], view)
    # And for another reader.
    other = safetensors.torch.load_file(tmp_path / "a")["kernel"].numpy()
    np.testing.assert_array_equal(other, view)


def test_all_misfits_in_one_error(path):
    like = {
        "layer_0": {"up": {"kernel": jax.ShapeDtypeStruct((3, 2), jnp.float32)}},
        "head": {"bias": jax.ShapeDtypeStruct((4,), jnp.float32)},
        "gate": jax.ShapeDtypeStruct((1,), jnp.float32),
    }
    with pytest.raises(UserError) as caught:
        load(path, like)
    for part in (
        "missing tensor gate",
        "unexpected tensor head.count",
        "layer_0.up.kernel has shape [2, 3]; expected [3, 2]",
        "head.bias has dtype bfloat16; expected float32",
    ):
        assert part in str(caught.value)


def test_damaged_and_absent_files(path, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "none")
    whole = path.read_bytes()
    for part in (b"", b"hello", whole[:-1], whole[:20], whole + b"x"):
        path.write_bytes(part)
        with pytest.raises(UserError, match="not a whole safetensors file"):
            load(path)


def test_names_with_dots_are_refused(tmp_path):
    with pytest.raises(UserError, match="a.b"):
        save(tmp_path / "a", {"a.b": np.zeros(1)})
