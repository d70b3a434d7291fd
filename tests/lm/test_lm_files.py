"""Weights from files: all kinds give the same parameters, and damage is told."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxgraph.errors import UserError
from jaxgraph.interop.rules.lm import params_from_torch, params_to_torch
from jaxgraph.lm.config import Architecture
from jaxgraph.lm.load import load_lm
from jaxgraph.lm.load.architecture import architecture_of
from jaxgraph.lm.load.gguf import load_gguf
from jaxgraph.lm.load.gguf_file import read_gguf
from jaxgraph.lm.load.hugging_face import load_folder
from tests.lm import gguf_writer as gguf
from tests.lm.models import QWEN, config_of, random_params, write_folder

LLAMA = Architecture(
    vocab_size=40, width=32, layers=2, heads=4, kv_heads=2, head_width=8, ffn_width=64
)
PARAMS = random_params(LLAMA)
TENSORS = params_to_torch(LLAMA, PARAMS)


def same(ours, expected):
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_folder(tmp_path):
    for arch in (LLAMA, QWEN):
        params = random_params(arch, 3)
        folder = write_folder(tmp_path / str(arch.tied), arch, params_to_torch(arch, params))
        loaded, ours = load_folder(folder)
        assert loaded == arch
        same(ours, params)


def test_rules_are_strict_both_ways():
    same(params_from_torch(LLAMA, TENSORS), PARAMS)
    with pytest.raises(UserError, match="missing key lm_head.weight"):
        params_from_torch(LLAMA, {k: v for k, v in TENSORS.items() if k != "lm_head.weight"})


def test_half_precision_is_kept_unless_another_is_wanted(tmp_path):
    half = {key: array.astype(ml_dtypes.bfloat16) for key, array in TENSORS.items()}
    folder = write_folder(tmp_path / "m", LLAMA, half)
    kept, wide = load_folder(folder)[1], load_folder(folder, "float32")[1]
    assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves(wide)} == {np.dtype("float32")}
    same(kept, jax.tree.map(lambda a: a.astype(ml_dtypes.bfloat16), PARAMS))


def test_everything_wrong_is_said_at_once(tmp_path):
    tensors = TENSORS | {"model.extra": np.zeros(3, np.float32)}
    tensors["model.norm.weight"] = np.ones(31, np.float32)
    tensors["model.layers.1.mlp.up_proj.weight"] = np.ones((64, 32), np.int32)
    del tensors["model.layers.0.self_attn.k_proj.weight"]
    with pytest.raises(UserError) as error:
        load_folder(write_folder(tmp_path / "m", LLAMA, tensors))
    for part in (
        "missing tensor model.layers.0.self_attn.k_proj.weight", "unexpected tensor model.extra",
        "model.norm.weight has shape [31]; expected [32]", "up_proj.weight has dtype int",
    ):  # fmt: skip
        assert part in str(error.value)


def shard(folder, change=lambda places: places):
    """The folder of LLAMA in two files."""
    write_folder(folder, LLAMA, TENSORS)
    (folder / "model.safetensors").unlink()
    names = sorted(TENSORS)
    places = {}
    for name, keys in (("a.safetensors", names[:9]), ("b.safetensors", names[9:])):
        save_file({key: TENSORS[key] for key in keys}, folder / name)
        places |= dict.fromkeys(keys, name)
    index = {"weight_map": change(places)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_shards(tmp_path):
    same(load_folder(shard(tmp_path / "m"))[1], PARAMS)


@pytest.mark.parametrize("change, message", [
    (lambda p: p | {"lm_head.weight": "../a.safetensors"}, "into '../a.safetensors'; expected a f"),
    (lambda p: p | {"lm_head.weight": "/a.safetensors"}, "expected a file name"),
    (lambda p: p | {"lm_head.weight": "c.safetensors"}, "c.safetensors is missing"),
    (lambda p: p | {"lm_head.weight": "b.safetensors"}, "missing tensor in b.saf.*lm_head.*unexp"),
    (lambda p: {}, "no object `weight_map`"),
])  # fmt: skip
def test_an_index_may_not_lie(tmp_path, change, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        load_folder(shard(tmp_path / "m", change))


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(UserError, match="config.json cannot be read"):
        load_folder(tmp_path)
    folder = write_folder(tmp_path / "m", LLAMA, TENSORS)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_folder(folder)
    file.unlink()
    with pytest.raises(UserError, match="has neither model.safetensors nor"):
        load_folder(folder)
    with pytest.raises(UserError, match="no language model at"):
        load_lm(tmp_path / "weights.pt")


@pytest.mark.parametrize("changed, message", [
    ({"model_type": "gpt2"}, "model_type of here is 'gpt2'; allowed: llama, qwen2"),
    ({"hidden_act": "gelu"}, "hidden_act of here is 'gelu'; only 'silu' is supported"),
    ({"attention_bias": True}, "attention_bias of here is True; only False"),
    ({"use_sliding_window": True}, "use_sliding_window"),
    ({"num_key_value_heads": 3}, "4 heads over 3 key-value heads"),
    ({"vocab_size": 0}, "vocab_size of here is 0; expected int above 0"),
    ({"hidden_size": "32"}, "hidden_size of here is '32'"),
    ({"rope_scaling": {"type": "yarn"}}, "rope scaling of here is 'yarn'"),
    ({"rope_scaling": {"type": "linear"}}, "factor of rope scaling of here is None"),
])  # fmt: skip
def test_configurations_that_would_give_other_numbers_are_refused(changed, message):
    with pytest.raises(UserError, match=message):
        architecture_of(config_of(LLAMA, **changed), "here")


def test_rotation_options_of_both_versions():
    old = architecture_of(config_of(LLAMA, rope_theta=77.0, rope_scaling=None))
    new = architecture_of(
        config_of(LLAMA, rope_theta=None, rope_parameters={"rope_theta": 77.0, "factor": 4.0,
                                                           "rope_type": "linear"})
    )  # fmt: skip
    assert (old.rope_theta, old.rope_divisors) == (77.0, ())
    assert (new.rope_theta, new.rope_divisors) == (77.0, (4.0,) * 4)


GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "model.layers.": "blk.",
    "post_attention_layernorm": "ffn_norm", "input_layernorm": "attn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
HEADER = {
    "general.architecture": "llama", "llama.block_count": 2, "llama.embedding_length": 32,
    "llama.feed_forward_length": 64, "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2, "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 1e4, "general.tags": ["a", "b"],
}  # fmt: skip


def gguf_name(key):
    for theirs, name in GGUF_NAMES.items():
        key = key.replace(theirs, name)
    return key


def write_gguf(path, tensors=TENSORS, header=HEADER, encode=None):
    heads = {"attn_q.weight": 4, "attn_k.weight": 2}
    stored = {gguf_name(key): array for key, array in tensors.items()}
    if header["general.architecture"] == "llama":
        for name in stored:
            count = heads.get(name.split(".", 2)[-1])
            stored[name] = gguf.permuted(stored[name], count) if count else stored[name]
    return gguf.write(path, header, stored, encode or {})


def test_gguf_gives_the_folder(tmp_path):
    write_gguf(tmp_path / "m.gguf")
    arch, params, values = load_gguf(tmp_path / "m.gguf")
    assert dataclasses.replace(arch, norm_eps=1e-5) == LLAMA
    assert arch.norm_eps == pytest.approx(1e-5)
    same(params, PARAMS)
    assert values["general.tags"] == ["a", "b"]


def test_gguf_of_qwen_keeps_its_rows(tmp_path):
    arch = dataclasses.replace(LLAMA, qkv_bias=True, tied=True)
    params = random_params(arch, 5)
    header = {key.replace("llama.", "qwen2."): item for key, item in HEADER.items()}
    header |= {"general.architecture": "qwen2"}
    write_gguf(tmp_path / "m.gguf", params_to_torch(arch, params), header)
    loaded, ours, _ = load_gguf(tmp_path / "m.gguf")
    assert loaded.qkv_bias and loaded.tied
    same(ours, params)


@pytest.mark.parametrize("form", [gguf.f16, gguf.q8_0, gguf.q4_1])
def test_quantised_tensors(tmp_path, form):
    name = "blk.0.ffn_up.weight"
    found = write_gguf(tmp_path / "m.gguf", encode={name: form})
    tensor = read_gguf(tmp_path / "m.gguf").tensors[name]
    np.testing.assert_array_equal(tensor.read(), found[name])
    error = np.abs(found[name] - TENSORS["model.layers.0.mlp.up_proj.weight"]).max()
    assert 0 < error < {gguf.f16: 1e-3, gguf.q8_0: 0.01, gguf.q4_1: 0.1}[form]


def test_rotation_factors_inside_a_gguf(tmp_path):
    factors = np.array([1, 2, 4, 8], np.float32)
    write_gguf(tmp_path / "m.gguf", TENSORS | {"rope_freqs.weight": factors})
    assert load_gguf(tmp_path / "m.gguf")[0].rope_divisors == (1, 2, 4, 8)


def test_damaged_gguf(tmp_path):
    path = tmp_path / "m.gguf"
    write_gguf(path)
    whole = path.read_bytes()
    for content, message in (
        (whole[:-400], "is not a whole GGUF file"), (whole[:300], "is not a whole GGUF file"),
        (b"GGML" + whole[4:], "not a GGUF file of version 2 or 3"), (b"", "cannot be read"),
        (whole[:8] + b"\xff" * 8 + whole[16:], "is not a whole GGUF file"),
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            load_gguf(path)
    write_gguf(path, encode={"blk.0.ffn_up.weight": lambda w: (12, b"\0" * 64, w)})
    with pytest.raises(UserError, match="blk.0.ffn_up.weight of .* has ggml type 12"):
        load_gguf(path)
    write_gguf(path, {k: v for k, v in TENSORS.items() if "norm" not in k})
    with pytest.raises(UserError, match="missing tensor model.norm.weight"):
        load_gguf(path)
