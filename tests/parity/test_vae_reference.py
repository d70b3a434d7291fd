"""Our JAX model against our PyTorch reference, in sizes and options that no golden case has."""

import numpy as np
import pytest
import torch

from jaxgraph.interop.case import load_case
from jaxgraph.interop.parity import as_table, check_case
from jaxgraph.vae.config import Likelihood, Model, Objective, Separability
from tests.torch_reference import vae_cases as cases

torch.set_num_threads(1)  # tiny models: threads only wait for each other
SCORED = Separability(weight=2.0, warmup_steps=0, ramp_steps=1)
OBJECTIVE = Objective(beta=0.8, beta_warmup_steps=1000, free_bits_over="sample")


def check(path, content, config, objective):
    case = load_case(cases.write_case(path, *content, config, objective))
    checks = check_case(case)
    assert checks.ok, as_table([checks])
    assert checks.unchecked == []
    return case


@pytest.mark.parametrize("config, objective, inputs", [
    (Model(inputs=19, num_layers=4, activation="gelu", layernorm=False, dropout=0.3), OBJECTIVE,
     {"labels": (3, 5)}),
    (Model(inputs=21, num_layers=2, max_width=9, likelihood=Likelihood(sigma=0.11)), OBJECTIVE, {}),
    (Model(inputs=4, num_layers=1, max_width=2), OBJECTIVE, {}),
    (Model("complex", inputs=13, num_layers=3), OBJECTIVE, {"labels": (4, 3, 5)}),
    (Model("complex", inputs=11, num_layers=1, activation="softplus", dropout=0.0), OBJECTIVE, {}),
    # Layers 1 wide, whose LayerNorm would leave rounding noise as gradient.
    (Model("free_bits", inputs=7, num_layers=9, activation="softplus", layernorm=False),
     Objective(0.8, 1000, free_bits=0.3, free_bits_over="sample"), {}),
], ids=["no norms", "cap", "no trunk", "complex", "complex softplus", "free bits"])
def test_forward_loss_and_gradients(tmp_path, config, objective, inputs):
    content = cases.forward_case(config, objective, SCORED, seed=3, **inputs)
    case = check(tmp_path / "a.npz", content, config, objective)
    # Separability has a gradient, and only where it is meant to have one.
    name = next(key for key in case.below("grad/") if "enc" in key and key.endswith("weight"))
    assert not np.array_equal(case[f"grad/{name}"], case[f"grad_total/{name}"])


@pytest.mark.parametrize("config, objective", [
    (Model(inputs=15, num_layers=3, dropout=0.0, activation="gelu"), OBJECTIVE),
    (Model("complex", inputs=14, num_layers=2, dropout=0.0), OBJECTIVE),
    (Model("free_bits", inputs=22, num_layers=2, dropout=0.0),
     Objective(0.8, 4, free_bits=0.2, free_bits_over="sample")),
], ids=["real", "complex", "free bits"])
def test_training_with_both_loops(tmp_path, config, objective):
    objective = Objective(**vars(objective) | {"beta_warmup_steps": 4})
    separability = Separability(weight=1.5, warmup_steps=1, ramp_steps=3)
    content = cases.train_case(config, objective, separability, seed=5)
    case = check(tmp_path / "a.npz", content, config, objective)
    apart = [
        np.abs(case[f"param/{key}"] - value).max()
        for key, value in case.below("param_intended/").items()
    ]
    assert max(apart) > 1e-4
