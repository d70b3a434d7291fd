"""Our JAX model against our PyTorch reference, in sizes and modes that no golden case has."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jaxgraph.interop.case import load_case
from jaxgraph.interop.cases.moe_model import language_model_loss
from jaxgraph.interop.cases.moe_train import comparable
from jaxgraph.interop.parity import as_table, check_case
from jaxgraph.interop.rules.moe import RULES, shapes_of
from jaxgraph.interop.tolerances import TOLERANCES
from jaxgraph.interop.torch import to_jax, to_torch
from jaxgraph.moe.config import Ghosts, Hypergraph, Model, Orthogonality
from jaxgraph.moe.model import LanguageModel
from jaxgraph.train.config import Group, Schedule
from jaxgraph.train.optim import make_optimizer
from tests.torch_reference import moe_cases as cases
from tests.torch_reference.moe_training import model_loss

torch.set_num_threads(1)  # tiny models: threads only wait for each other
FOLDER = Path(__file__).parent / "moe"


def make_config(mode, strategy="pairs", ghosts=0, threshold=0.7, convolutions=2, learn=True, **o):
    sizes = {"vocab_size": 29, "max_seq_len": 12, "width": 12, "num_heads": 3, "num_layers": 1}
    # The original's mode `ghost` whose coupling was switched off.
    uncoupled = mode == "gnn" and ghosts > 0
    return Model(
        mode="ghost" if uncoupled else mode,
        coupling="none" if uncoupled else "by_mode",
        dropout=0.0,
        hypergraph=Hypergraph(strategy, convolutions, "original", learn),
        ghosts=Ghosts(ghosts, threshold, statistic="original", timing="forward", mixing="original"),
        orthogonality=Orthogonality(weight=0.0),
        **sizes | o,
    )


def check(path, content, config, **training):
    case = load_case(cases.write_case(path, *content, cases.settings(config, **training)))
    checks = check_case(case)
    assert checks.ok, as_table([checks])
    assert checks.unchecked == []
    return case


def test_forward_loss_and_gradients(tmp_path):
    config = make_config("orthogonal", "all", convolutions=3, learn=False, num_experts=5)
    # Rows as long as there are positions.
    content = cases.forward_case(config, seed=1, batch=3, length=config.max_seq_len)
    check(tmp_path / "a.npz", content, config)


@pytest.mark.parametrize("mode", ["gnn", "ghost"])
def test_ghosts_wake_and_ramp(mode, tmp_path):
    config = make_config(mode, ghosts=2, threshold=0.002, num_experts=3)
    case = check(tmp_path / "a.npz", cases.ghost_case(config, seed=3), config)
    assert len(np.unique(case["out/activation_levels"])) > 3
    grads = [value for key, value in case.below("grad/").items() if "ghost" in key]
    # Coupled ghosts are without effect (spec D3), and must be exactly so: Adam would make steps
    # of rounding noise.
    assert all((grad == 0).all() for grad in grads) is (mode == "ghost")


def test_more_hyperedges_than_nodes_stay_isolated(tmp_path):
    # Ten triplets over five experts; the second layer would spread what leaks in the first.
    config = make_config(
        "hgnn", "triplets", convolutions=1, vocab_size=83, num_experts=5, num_layers=2
    )
    arrays, meta = cases.forward_case(config, 5, 2, 9, prefix="out/isolated/")
    model = cases.make_model(config, 5)
    changed = torch.from_numpy(arrays["in/input_ids"]).clone()
    changed[0, 5] = (changed[0, 5] + 1) % config.vocab_size
    with torch.no_grad():
        logits, _ = model(changed, torch.from_numpy(arrays["in/attention_mask"]))
    leak = np.abs(logits.numpy() - arrays["out/isolated/logits"]).max(-1)
    assert leak[0, 5:].min() > 0
    arrays["out/isolated_leak"] = leak
    check(tmp_path / "a.npz", (arrays, meta), config)
    arrays["out/isolated_leak"] = leak + np.eye(2, 9)[::-1] * 1e-3
    path = cases.write_case(tmp_path / "b.npz", arrays, meta, cases.settings(config))
    failed = [row.name for row in check_case(load_case(path)).rows if not row.ok]
    assert failed == ["out/isolated_leak"]


def test_training_with_waking_ghosts(tmp_path):
    config = make_config("gnn", ghosts=2, threshold=0.002, num_experts=2)
    options = {"lr": 1e-3, "ghost_lr": 2e-3, "coupling": "inverse", "period": 6}
    content = cases.train_case(config, seed=4, **options)
    case = check(
        tmp_path / "a.npz",
        content,
        config,
        learning_rate=1e-3,
        max_steps=6,
        ghost_learning_rate=2e-3,
        ghost_lr_coupling="inverse",
    )
    assert case["out/legacy/final_levels"].min() > 0.02
    assert case["out/legacy/ghost_lrs_after"].max() > 1e-5


def test_weights_after_five_steps_of_all_groups():
    config = make_config("hgnn", num_experts=3)
    model = cases.make_model(config, 7)
    tokens, masks = cases.make_batch(config, 7, 5, 2, 10)
    masks[:, 0, :2] = 0  # padding on the left, too: queries that see no key
    params = to_jax(model.state_dict(), shapes_of(config), RULES)
    start, net = to_torch(params, RULES), LanguageModel(config)

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
    theirs = []
    for ids, mask in zip(tokens, masks, strict=True):
        loss = model_loss(model(ids, mask)[0], ids * mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        theirs.append(loss.item())

    # Ours by the optimiser that training uses.
    group = Group(
        lr=3e-3,
        weight_decay=0.05,
        decay="all",
        schedule=Schedule("cosine_periodic", decay_steps=3),
    )
    transform = make_optimizer({"all": group}, [("", "all")], total_steps=5).transform

    @jax.jit
    def step(params, moments, ids, mask):
        def objective(params):
            hidden = net.apply({"params": params}, ids, attention_mask=mask).hidden
            logits = net.apply({"params": params}, hidden, method="logits")
            return language_model_loss(logits, ids * mask)

        loss, grads = jax.value_and_grad(objective)(params)
        updates, moments = transform.update(grads, moments, params)
        return loss, optax.apply_updates(params, updates), moments

    params = jax.tree.map(jnp.asarray, params)
    moments, ours = transform.init(params), []
    for ids, mask in zip(tokens.numpy(), masks.numpy(), strict=True):
        loss, params, moments = step(params, moments, jnp.asarray(ids), jnp.asarray(mask))
        ours.append(float(loss))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCES["trajectory_loss"])
    final = to_torch(params, RULES)
    expected = {k: v.numpy() for k, v in model.state_dict().items()}
    assert final.keys() == expected.keys()
    for key, value in final.items():
        if key.endswith("hyperedge_weights"):
            # PyTorch passes over what has no gradient; here its gradient is zero, and it decays.
            continue
        assert not np.array_equal(value, start[key])
        np.testing.assert_allclose(
            comparable(key, value),
            comparable(key, expected[key]),
            rtol=0,
            atol=TOLERANCES["weight"],
            err_msg=key,
        )
