"""The rule engine: exact both ways, and nothing slips through."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgraph.errors import UserError
from jaxgraph.interop.rule import LINEAR, VECTOR, Linear, Rule
from jaxgraph.interop.torch import as_numpy, as_tensor, load_pt, save_pt, to_jax, to_torch

sizes = st.integers(1, 4)
RULES = (
    Rule("layer_{i}/experts/up/kernel", "layers.{i}.experts.{e}.up.weight", LINEAR),
    Rule("layer_{i}/experts/out/kernel", "layers.{i}.experts.{e}.out.weight", Linear(inputs=2)),
    Rule("layer_{i}/experts/qkv/bias", "layers.{i}.experts.{e}.in_proj_bias", VECTOR),
    Rule("layer_{i}/twice/scale", "layers.{i}.a{x}.b{y}.weight"),
    Rule("embedding", "emb.weight"),
)


def like(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def random_bits(shape, seed):
    """Floats of arbitrary bits, NaNs and -0.0 among them."""
    bits = np.random.default_rng(seed).integers(0, 2**32, shape, dtype=np.uint32)
    return bits.view(np.float32)


def assert_same_bits(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert a.tobytes() == b.tobytes()


@st.composite
def trees(draw):
    seed = draw(st.integers(0, 1000))
    e, d, h, k, f, x, y = (draw(sizes) for _ in range(7))
    shapes = {
        "experts": {
            "up": {"kernel": (e, d, f)},
            "out": {"kernel": (e, h, k, d)},
            "qkv": {"bias": (e, 3, h, k)},
        },
        "twice": {"scale": (x, y, d)},
    }
    tree = {f"layer_{i}": shapes for i in range(draw(sizes))} | {"embedding": (f, d)}
    return jax.tree.map(
        lambda s: random_bits(s, seed + math.prod(s)), tree, is_leaf=lambda x: isinstance(x, tuple)
    )


@settings(deadline=None, max_examples=50)
@given(trees())
def test_round_trip_keeps_every_bit(tree):
    tensors = to_torch(tree, RULES)
    back = to_jax(tensors, like(tree), RULES)
    jax.tree.map(assert_same_bits, tree, back)
    again = to_torch(back, RULES)
    assert again.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert_same_bits(again[key], tensor)
        assert tensor.flags.c_contiguous and again[key].base is None


def test_layouts_compute_the_same():
    module = torch.nn.Linear(3, 8)
    with torch.no_grad():
        x = torch.randn(2, 3)
        expected = module(x).numpy()
    rules = [Rule("kernel", "weight", LINEAR), Rule("bias", "bias", VECTOR)]
    shapes = {"kernel": (3, 2, 4), "bias": (2, 4)}
    tree = to_jax(
        module.state_dict(),
        {name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in shapes.items()},
        rules,
    )
    ours = np.einsum("bd,dhk->bhk", x.numpy(), tree["kernel"]) + tree["bias"]
    np.testing.assert_allclose(ours.reshape(2, 8), expected, atol=1e-6)
    # Two input axes: the same matrix read as [h, k, d].
    out = to_jax(
        {"weight": module.weight.T},
        {"kernel": jax.ShapeDtypeStruct((2, 4, 3), jnp.float32)},
        [Rule("kernel", "weight", Linear(inputs=2))],
    )
    assert np.array_equal(out["kernel"].reshape(8, 3), module.weight.detach().numpy())


def test_stacked_experts_keep_their_numbers():
    tensors = {f"layers.0.experts.{e}.up.weight": np.full((5, 2), e, np.float32) for e in range(12)}
    shape = {"layer_0": {"experts": {"up": {"kernel": jax.ShapeDtypeStruct((12, 2, 5), "f4")}}}}
    kernel = to_jax(tensors, shape, RULES)["layer_0"]["experts"]["up"]["kernel"]
    assert [int(k[0, 0]) for k in kernel] == list(range(12))  # 2 comes before 10


def complaint(action, *args, **kwargs):
    with pytest.raises(UserError) as caught:
        action(*args, **kwargs)
    return str(caught.value)


def test_all_problems_in_one_error():
    tree = {
        "embedding": np.zeros((4, 2), np.float32),
        "layer_0": {"experts": {"up": {"kernel": np.zeros((2, 2, 3), np.float32)}}},
        "layer_1": {"experts": {"up": {"kernel": np.zeros((1, 2, 3), np.float32)}}},
    }
    tensors = to_torch(tree, RULES)
    tensors["layers.0.experts.1.upp.weight"] = tensors.pop("layers.0.experts.1.up.weight")
    tensors["layers.1.experts.0.up.weight"] = np.zeros((2, 3), np.float32)
    tensors["emb.weight"] = tensors["emb.weight"].astype(np.float64)
    tensors["optimizer.state"] = np.zeros(1)
    message = complaint(to_jax, tensors, like(tree), RULES)
    for part in (
        "missing key layers.0.experts.1.up.weight "
        "(nearest unexpected: layers.0.experts.1.upp.weight)",
        "unexpected key layers.0.experts.1.upp.weight",
        "unexpected key optimizer.state",
        "layers.1.experts.0.up.weight has shape [2, 3]; expected [3, 2]",
        "emb.weight has dtype float64; expected float32",
    ):
        assert part in message
    assert len(message.splitlines()) == 6


def test_skip_forgives_unexpected_keys_only():
    tree = {"embedding": np.zeros((4, 2), np.float32)}
    tensors = to_torch(tree, RULES) | {"rotary.inv_freq": np.zeros(1)}
    assert "rotary.inv_freq" in complaint(to_jax, tensors, like(tree), RULES)
    to_jax(tensors, like(tree), RULES, skip=["*.inv_freq"])
    del tensors["emb.weight"]
    assert "missing key emb.weight" in complaint(
        to_jax, tensors, like(tree), RULES, skip=["*.inv_freq", "emb.*"]
    )


@pytest.mark.parametrize(
    ("tree", "rules", "part"),
    [
        ({"gate": {"kernel": np.zeros(2)}}, RULES, "leaf gate/kernel [2] needs exactly one rule"),
        ({"a": np.zeros(2)}, [Rule("a", "x"), Rule("a", "y")], "found: a, a"),
        ({"a": np.zeros(2), "b": np.zeros(2)}, [Rule("a", "x"), Rule("b", "x")], "claimed by two"),
        # A path is matched as a whole, and a dot is a dot.
        ({"xa": np.zeros(2)}, [Rule("a", "x")], "found: none"),
        ({"a_b": np.zeros(2)}, [Rule("a.b", "x")], "found: none"),
    ],
)
def test_rules_must_cover_every_leaf_once(tree, rules, part):
    assert part in complaint(to_torch, tree, rules)
    assert part in complaint(to_jax, {}, like(tree), rules)


def test_bfloat16_is_kept_or_widened_and_never_narrowed():
    tensor = torch.randn(3, 2).to(torch.bfloat16)
    shape = lambda dtype: {"embedding": jax.ShapeDtypeStruct((3, 2), dtype)}  # noqa: E731
    kept = to_jax({"emb.weight": tensor}, shape(jnp.bfloat16), RULES)["embedding"]
    wide = to_jax({"emb.weight": tensor}, shape(jnp.float32), RULES)["embedding"]
    assert kept.dtype == jnp.bfloat16 and wide.dtype == np.float32
    assert np.array_equal(wide, tensor.float().numpy())
    assert torch.equal(as_tensor(to_torch({"embedding": kept}, RULES)["emb.weight"]), tensor)
    message = complaint(to_jax, {"emb.weight": tensor.float()}, shape(jnp.bfloat16), RULES)
    assert "float32; expected bfloat16" in message


def test_pt_files_hold_the_same_bits(tmp_path):
    array = random_bits((3, 4), 0)
    save_pt(tmp_path / "a.pt", {"model_state_dict": {"w": array.T}, "config": {"a": 1}})
    content = load_pt(tmp_path / "a.pt")
    assert content["config"] == {"a": 1}
    assert_same_bits(as_numpy(content["model_state_dict"]["w"]), np.ascontiguousarray(array.T))


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_pt_files_run_no_code_and_fail_in_words(tmp_path, capsys):
    paths = {name: tmp_path / f"{name}.pt" for name in ("evil", "cut", "text", "list", "none")}
    torch.save({"model_state_dict": Evil()}, paths["evil"])
    torch.save({"w": torch.zeros(100)}, paths["cut"])
    paths["cut"].write_bytes(paths["cut"].read_bytes()[:-200])
    paths["text"].write_text("hello")
    torch.save([1], paths["list"])
    for name, path in paths.items():
        words = {"none": "no such file", "list": "expected a dict"}.get(name, "weights_only=True")
        assert words in complaint(load_pt, path)
    assert "code ran" not in capsys.readouterr().out
