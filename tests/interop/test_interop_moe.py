"""The MoE's table of rules, its config mapping, and the layouts of the original's checkpoints."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgraph.errors import UserError
from jaxgraph.interop.rules.moe import RULES, read_checkpoint, shapes_of
from jaxgraph.interop.rules.moe_config import config_from_torch, config_to_torch
from jaxgraph.interop.torch import to_jax, to_torch
from jaxgraph.moe.config import Ghosts, Hypergraph, Model, Orthogonality, Router
from tests.torch_reference.moe import LanguageModel

SEED = Ghosts(statistic="original", timing="forward", mixing="original")


def original_model(mode="hgnn", strategy="pairs", ghosts=0, **options):
    """A model that computes as the original does."""
    hypergraph = {
        name: options.pop(name) for name in ("convolutions", "learnable_weights") if name in options
    }
    # The original's mode `ghost` whose coupling was switched off.
    uncoupled = mode == "gnn" and ghosts > 0
    return Model(
        mode="ghost" if uncoupled else mode,
        coupling="none" if uncoupled else "by_mode",
        dropout=0.0,
        hypergraph=Hypergraph(operator="original", strategy=strategy, **hypergraph),
        ghosts=dataclasses.replace(SEED, count=ghosts),
        orthogonality=Orthogonality(weight=0.0),
        **options,
    )


@st.composite
def models(draw):
    heads = draw(st.integers(1, 3))
    mode = draw(st.sampled_from(["gnn", "hgnn", "orthogonal", "ghost"]))
    return original_model(
        mode,
        draw(st.sampled_from(["pairs", "triplets", "all"])),
        draw(st.integers(0, 2)) if mode in ("ghost", "gnn") else 0,
        vocab_size=draw(st.integers(1, 7)),
        max_seq_len=draw(st.integers(1, 5)),
        width=heads * draw(st.integers(1, 3)),
        num_heads=heads,
        num_layers=draw(st.integers(1, 2)),
        num_experts=draw(st.integers(3, 4)),
        convolutions=draw(st.integers(1, 3)),
        learnable_weights=draw(st.booleans()),
    )


@settings(deadline=None, max_examples=15)
@given(models())
def test_state_dicts_of_all_modes_and_sizes_round_trip(model):
    reference = {k: v.numpy() for k, v in LanguageModel(model).state_dict().items()}
    params = to_jax(reference, shapes_of(model), RULES)
    back = to_torch(params, RULES)
    assert back.keys() == reference.keys()
    for key in back:
        assert back[key].tobytes() == reference[key].tobytes()
        assert back[key].shape == reference[key].shape
    again = to_jax(back, shapes_of(model), RULES)
    jax.tree.map(np.testing.assert_array_equal, params, again)


@settings(deadline=None, max_examples=50)
@given(models())
def test_configs_round_trip(model):
    assert config_from_torch(config_to_torch(model)) == model


def test_default_sizes_have_the_published_counts():
    # spec/moe.md 3.1
    for mode, ghosts, tensors, values in (
        ("gnn", 0, 102, 14_568_017),
        ("hgnn", 0, 120, 14_667_613),
        ("orthogonal", 0, 120, 14_667_613),
        ("ghost", 4, 216, 16_253_789),
    ):
        shapes = shapes_of(original_model(mode, ghosts=ghosts, vocab_size=50257))
        zeros = jax.tree.map(lambda s: np.broadcast_to(np.float32(0), s.shape), shapes)
        state = to_torch(zeros, RULES)
        assert len(state) == tensors
        assert sum(tensor.size for tensor in state.values()) == values


def original_config(**changes):
    config = config_to_torch(original_model(vocab_size=7, width=8, num_heads=2))
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (config[section] if section else config)[name] = value
    return config


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"router": "top2"}, "unknown field router"),
        ({"hgnn__attention": True}, "unknown field hgnn.attention"),
        ({"embed_dim": "128"}, "embed_dim is '128'; expected a count"),
        ({"num_layers": True}, "num_layers is True; expected a count"),
        ({"num_heads": 0}, "num_heads is 0; expected a count"),
        ({"ghost": None}, "ghost is missing or not an object"),
        ({"hgnn__strategy": "all_fours"}, "allowed: all_pairs, all_triplets, all"),
        ({"architecture_mode": "moe"}, "allowed: gnn, hgnn, orthogonal, ghost"),
        ({"use_hypergraph_coupling": False}, "which mode 'hgnn' does not allow"),
        ({"num_heads": 3}, "8 is not a multiple of num_heads 3"),
        ({"ghost__num_ghost_experts": 1}, "1 ghosts in mode 'hgnn'"),
        ({"num_experts": 1}, "1 experts cannot form pairs"),
    ],
)
def test_configs_that_are_not_ours_are_refused(changes, part):
    with pytest.raises(UserError) as caught:
        config_from_torch(original_config(**changes))
    assert part in str(caught.value)


def test_missing_fields_are_not_inferred_and_training_fields_do_not_matter():
    config = original_config(seed=1, geometric={"enabled": True}, ghost__ghost_learning_rate=1.0)
    assert config_from_torch(config) == config_from_torch(original_config())
    del config["vocab_size"], config["hgnn"]["num_layers"]
    with pytest.raises(UserError) as caught:
        config_from_torch(config)
    assert "vocab_size is missing" in str(caught.value)
    assert "hgnn.num_layers is missing" in str(caught.value)


def test_models_that_the_original_cannot_compute_are_refused():
    model = original_model("ghost", ghosts=2, vocab_size=7, ffn_factor=2)
    model = dataclasses.replace(
        model,
        hypergraph=Hypergraph(),
        ghosts=dataclasses.replace(model.ghosts, schedule="binary"),
    )
    with pytest.raises(UserError) as caught:
        config_to_torch(model)
    for part in ("ffn_factor is 2", "hypergraph.operator is 'weighted'", "ghosts.schedule is"):
        assert part in str(caught.value)


def test_a_router_has_no_place_in_the_original():
    model = original_model("gnn", vocab_size=7, width=8, num_heads=2)
    unused = dataclasses.replace(model, router=Router(implementation="dense"))
    assert config_to_torch(unused) == config_to_torch(model)
    routed = dataclasses.replace(model, router=Router(top_k=2))
    with pytest.raises(UserError, match="router.top_k is 2; the original has none"):
        config_to_torch(routed)
    params = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes_of(routed))
    with pytest.raises(UserError, match="layer_0/router/kernel"):
        to_torch(params, RULES)


def test_checkpoint_layouts(tmp_path):
    model = original_model(vocab_size=7, width=8, num_heads=2)
    weights, config = LanguageModel(model).state_dict(), original_config()
    layouts = {
        # The loops', the controllers' and the dashboard's, which has no config.
        "legacy": {"epoch": 0, "optimizer_state_dict": {}, "config": config},
        "controller": {"controller_optimizer_states": [{}], "config": config},
        "dashboard": {"optimizer_state_dicts": [{}]},
    }
    for name, extra in layouts.items():
        path = tmp_path / f"{name}.pt"
        torch.save({"model_state_dict": weights, **extra}, path)
        if name == "dashboard":
            with pytest.raises(UserError, match="put the run's config.json beside it"):
                read_checkpoint(path)
            (tmp_path / "config.json").write_text(json.dumps(config))
        stored = read_checkpoint(path)
        assert stored.model == model
        to_jax(stored.tensors, shapes_of(model), RULES)
    torch.save(weights, tmp_path / "bare.pt")
    with pytest.raises(UserError, match="no `model_state_dict`"):
        read_checkpoint(tmp_path / "bare.pt")
