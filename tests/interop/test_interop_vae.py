"""Checkpoints of the mixture VAE: three classes, numbers in any order, strict both ways."""

import runpy
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import torch

from jaxgraph import config as configs
from jaxgraph.errors import UserError
from jaxgraph.interop.exchange import vae as exchange
from jaxgraph.interop.rules.vae import params_from_torch, params_to_torch
from jaxgraph.interop.rules.vae_config import config_from_torch, config_to_torch
from jaxgraph.vae.config import Likelihood, Model, Objective, Prior, Vae
from tests.torch_reference.vae import MixtureVae
from tests.vae import models

ROOT = Path(__file__).parents[2]
convert = runpy.run_path(str(ROOT / "scripts" / "convert.py"))["main"]
MODELS = [
    Model(inputs=14, num_layers=3),
    Model(inputs=14, num_layers=3, dropout=0.0),
    Model(inputs=14, num_layers=3, layernorm=False),
    Model(inputs=4, num_layers=1, max_width=2),
    Model("complex", inputs=14, num_layers=3),
    Model("complex", inputs=14, num_layers=3, dropout=0.0),
    Model("free_bits", inputs=14, num_layers=3, activation="gelu"),
]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_there_and_back_with_the_originals_names_and_order(model):
    theirs = MixtureVae(model, Objective()).state_dict()
    params = params_from_torch(model, theirs)
    back = params_to_torch(model, params)
    assert list(back) == list(theirs)
    assert all(np.array_equal(back[key], theirs[key].numpy()) for key in back)


def test_numbers_are_taken_in_order_whatever_the_options_say():
    model = Model(inputs=60, num_layers=4, dropout=0.0)
    tensors = MixtureVae(replace(model, dropout=0.5), Objective()).state_dict()
    # Options without dropout, keys as with it: 0, 4, 8, 12 (as text, 12 comes before 4).
    assert "encoder.net.12.weight" in tensors
    params = params_from_torch(model, tensors)
    right = params_to_torch(replace(model, dropout=0.5), params)
    assert all(np.array_equal(right[key], tensors[key].numpy()) for key in tensors)


def test_everything_wrong_is_listed():
    model = MODELS[0]
    tensors = dict(MixtureVae(model, Objective()).state_dict())
    del tensors["encoder.net.1.bias"]
    tensors["enc_head.bias"] = torch.zeros(3)
    tensors["codebook.weight"] = torch.zeros(3)
    with pytest.raises(UserError) as caught:
        params_from_torch(model, tensors)
    for words in (
        "missing key encoder.net.1.bias", "unexpected key codebook.weight",
        "enc_head.bias has shape [3]; expected [",
    ):  # fmt: skip
        assert words in str(caught.value)
    with pytest.raises(UserError, match="missing key encoder.net.8.weight"):
        params_from_torch(model, {k: v for k, v in tensors.items() if ".8." not in k})


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_options_there_and_back(model):
    free_bits = 0.07 if model.kind == "free_bits" else 0.0
    objective = Objective(0.35, 15000, free_bits=free_bits, free_bits_over="sample")
    cfg = config_to_torch(model, objective)
    keys = MixtureVae(replace(model, inputs=14, max_width=768), Objective()).state_dict()
    assert config_from_torch(cfg, keys) == (model, objective)


@pytest.mark.parametrize("changes, words", [
    ({"num_layers": None}, "num_layers is None; expected a int"),
    ({"layernorm": 1}, "layernorm is 1; expected a bool"),
    ({"activation": "relu"}, "activation is 'relu'; allowed: silu, gelu, softplus"),
    ({"noise_sigma": 0}, "noise_sigma is 0; allowed: above 0"),
    ({"dropout": 1.0}, "dropout is 1.0"),
    ({"codes": 5}, "unknown field codes"),
])
def test_options_that_are_none_of_ours_are_refused(changes, words):
    cfg = config_to_torch(MODELS[0], Objective()) | changes
    with pytest.raises(UserError, match=words):
        config_from_torch(cfg, {})


@pytest.mark.parametrize("model, words", [
    (Model(inputs=14, likelihood=Likelihood("bernoulli")), "likelihood.kind is 'bernoulli'"),
    (Model(inputs=14, prior=Prior("mixture")), "prior.kind is 'mixture'"),
    (Model(inputs=14, clamp_logvar=8.0), "clamp_logvar is 8"),
])
def test_what_the_original_cannot_compute_is_not_written(tmp_path, model, words):
    with pytest.raises(UserError, match=words):
        exchange.write(tmp_path / "a.pt", models.random_params(model), Vae(model=model))
    assert not (tmp_path / "a.pt").exists()


@pytest.mark.parametrize("kind", ["real", "complex", "free_bits"])
def test_the_command_there_and_back(kind, tmp_path, capsys):
    model = Model(kind, inputs=64, num_layers=2)
    objective = Objective(free_bits=0.05 if kind == "free_bits" else 0.0, free_bits_over="sample")
    state = MixtureVae(model, objective).state_dict()
    path = tmp_path / "epoch_003_loss_-227.1234_(BEST).pt"
    torch.save({"state_dict": state, "cfg": config_to_torch(model, objective)}, path)
    convert(["to-jax", str(path), str(tmp_path / "out")])
    assert "vae, read with weights_only" in capsys.readouterr().out
    config = configs.load(["--config", str(tmp_path / "out" / "config.yaml")])
    assert config.task.model == model and config.task.objective == objective
    convert(["to-torch", str(tmp_path / "out"), str(tmp_path / "back.pt")])
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert back["cfg"] == config_to_torch(model, objective)
    assert back["state_dict"].keys() == state.keys()
    assert all(torch.equal(back["state_dict"][key], state[key]) for key in state)


def test_the_command_refuses_what_it_does_not_know(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="moe or neurograph or vae: it holds weights"):
        convert(["to-jax", str(tmp_path / "a.pt"), str(tmp_path / "out")])
    torch.save({"state_dict": {}, "cfg": {"f": jax.tree.map}}, tmp_path / "b.pt")
    with pytest.raises(UserError, match="weights_only=True"):
        convert(["to-jax", str(tmp_path / "b.pt"), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
