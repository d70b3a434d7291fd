"""The PyTorch reference itself, against the numbers of the original."""

from pathlib import Path

import numpy as np
import pytest
import torch

from jaxgraph.interop.case import load_case
from jaxgraph.interop.cases.moe_train import comparable
from jaxgraph.interop.rules.moe_config import config_from_torch
from jaxgraph.interop.tolerances import TOLERANCES
from tests.torch_reference import moe as reference
from tests.torch_reference import moe_cases as cases
from tests.torch_reference.hypergraph_loops import convolve_batch
from tests.torch_reference.moe_training import model_loss, train

FOLDER = Path(__file__).parent / "moe"
SCORES = ("orthogonality_score", "unexplained_variance")


def load(name):
    case = load_case(FOLDER / f"{name}.npz")
    config = config_from_torch(case.meta["config"])
    model = reference.LanguageModel(config)
    # Strict: the same names, shapes and number of tensors as in the original.
    model.load_state_dict({k: torch.from_numpy(v) for k, v in case.below("param/").items()})
    tokens, mask = (torch.from_numpy(case[f"in/{n}"]) for n in ("input_ids", "attention_mask"))
    return case, config, model, tokens, mask


def assert_close(ours, expected, kind, name=""):
    np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCES[kind], err_msg=name)


def assert_pass(case, config, model, logits, trace, labels, prefix):
    loss = model_loss(logits, labels)
    model.zero_grad()
    loss.backward()
    outputs = cases.trace_arrays(config, logits, trace, loss)
    for name, value in outputs.items():
        assert_close(value, case[prefix + name], "value", name)
    grads, without = cases.grad_arrays(model)
    assert without == case.meta["grad_none"]
    for name, value in grads.items():
        assert_close(value, case[name], "gradient", name)


@pytest.mark.parametrize("name", ["p1_gnn_forward", "p2_hgnn_pairs_e3"])
def test_forward(name):
    case, config, model, tokens, mask = load(name)
    logits, trace = model(tokens, mask)
    labels = torch.from_numpy(case["in/labels"])
    assert_pass(case, config, model, logits, trace, labels, "out/")
    assert_close(model(tokens)[0].detach(), case["out/logits_nomask"], "value")


def test_ghosts():
    case, config, model, tokens, masks = load("p3_ghost_sequence")
    for step, (ids, mask) in enumerate(zip(tokens, masks, strict=True)):
        logits, trace = model(ids, mask)
        assert_close(logits.detach(), case["out/logits_seq"][step], "value")
        for i, layer in enumerate(model.model_layers):
            assert_close(
                trace["layers"][i]["scores"],
                [
                    case[f"out/{n}"][step, i]
                    for n in ("orthogonality_score", "unexplained_variance")
                ],
                "statistic",
            )
            assert_close(layer.controller.levels, case["out/activation_levels"][step, i], "exact")
            assert layer.controller.phase == case["out/ghost_state"][step, i].tolist()
    assert_pass(case, config, model, logits, trace, ids * mask, "out/last/")


def test_controller():
    case = load_case(FOLDER / "p3_ghost_sequence.npz")
    controller = reference.Controller(2)
    for step, trigger in enumerate(case["in/controller_trigger"]):
        controller.update(trigger)
        assert_close(controller.levels, case["out/controller_levels"][step], "exact")
        assert controller.phase == case["out/controller_state"][step].tolist()


@pytest.mark.parametrize("loop", ["legacy", "standard"])
def test_training(loop):
    case, _, model, tokens, masks = load("p5_train_hgnn")
    options = {"ghost_lr": 0.0, "coupling": "inverse"}
    record = train(model, tokens, masks, loop=loop, lr=1e-3, period=8, **options)
    assert_close(record["loss"], case[f"out/{loop}/loss"], "trajectory_loss")
    final = model.state_dict()
    for key, expected in case.below(f"out/{loop}/final/").items():
        assert_close(comparable(key, final[key].numpy()), comparable(key, expected), "weight", key)
    for key in case.meta[f"{loop}_unchanged"]:
        assert_close(final[key], case[f"param/{key}"], "exact", key)


def test_loops_over_hyperedges():
    """The definition of the convolution, node by node, gives the original's numbers."""
    case, config, model, *_ = load("p2_hgnn_pairs_e3")
    edges = reference.hyperedges(config.num_experts, config.hypergraph.strategy)
    for i in range(config.num_layers):
        nodes = np.stack([case[f"out/layer{i}/expert{e}"] for e in range(3)], 2)
        for j in range(config.hypergraph.convolutions):
            key = f"param/model_layers.{i}.coupler.hgnn_layers_module.{j}"
            nodes = convolve_batch(nodes, edges, case[f"{key}.lin.weight"].T, case[f"{key}.bias"])
            assert_close(nodes, case[f"out/layer{i}/hconv{j}"], "value")
