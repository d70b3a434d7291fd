"""Groups, rules and schedules against closed forms and PyTorch."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.errors import UserError
from jaxgraph.train.config import Group, Schedule
from jaxgraph.train.optim import by_path, group_norms, make_optimizer, make_schedule

CONSTANT = Schedule("constant")
ADAM = dict(lr=0.01, betas=(0.8, 0.95), eps=1e-5)


def tree():
    return {
        "experts": {"up": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}},
        "norm": {"scale": jnp.ones(3)},
    }


def run(groups, rules, steps=1, grads=None, clip=0.0):
    optimizer = make_optimizer(groups, rules, total_steps=10, clip=clip)
    params = tree()
    state = optimizer.transform.init(params)
    for _ in range(steps):
        grads = grads if grads is not None else jax.tree.map(jnp.ones_like, params)
        updates, state = optimizer.transform.update(grads, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def test_rules_take_the_first_match_and_must_cover_everything():
    labels = by_path(tree(), [("experts/.*/bias", "a"), ("experts", "b"), ("", "c")])
    assert labels["experts"]["up"] == {"bias": "a", "kernel": "b"}
    assert labels["norm"]["scale"] == "c"
    with pytest.raises(UserError, match="norm/scale"):
        by_path(tree(), [("experts", "a")])


def test_each_group_has_its_own_optimiser_and_frozen_parameters_stay():
    groups = {
        "experts": Group(kind="sgd", lr=0.5, b1=0.0, schedule=CONSTANT),
        "rest": Group(kind="frozen"),
    }
    params = run(groups, [("experts", "experts"), ("", "rest")])
    np.testing.assert_allclose(params["experts"]["up"]["kernel"], 0.5)
    np.testing.assert_array_equal(params["norm"]["scale"], 1.0)


def test_frozen_gradients_do_not_count_in_the_clipping_norm():
    groups = {
        "experts": Group(kind="sgd", lr=1.0, b1=0.0, schedule=CONSTANT),
        "rest": Group(kind="frozen"),
    }
    grads = jax.tree.map(jnp.ones_like, tree())
    grads["norm"]["scale"] = jnp.full(3, 1e6)
    params = run(groups, [("experts", "experts"), ("", "rest")], grads=grads, clip=1.5)
    # Nine trained ones have norm 3, which is clipped to 1.5.
    np.testing.assert_allclose(params["experts"]["up"]["kernel"], 0.5, atol=1e-6)


def test_a_group_may_be_clipped_by_itself():
    plain = Group(kind="sgd", lr=1.0, b1=0.0, schedule=CONSTANT)
    groups = {"experts": replace(plain, clip=1.5), "rest": plain}
    params = run(groups, [("experts", "experts"), ("", "rest")])
    np.testing.assert_allclose(params["experts"]["up"]["kernel"], 0.5, atol=1e-6)
    np.testing.assert_allclose(params["norm"]["scale"], 0.0, atol=1e-6)


def test_lion_moves_by_the_sign_of_its_gradient():
    """Chen et al. 2023, algorithm 2: p - lr (sign(b1 m + (1 - b1) g) + decay p)."""
    group = Group(kind="lion", lr=0.1, weight_decay=0.5, decay="all", schedule=CONSTANT)
    grads = jax.tree.map(lambda x: jnp.broadcast_to(jnp.arange(1.0, 4.0), x.shape), tree())
    params = run({"all": group}, [("", "all")], grads=grads)
    np.testing.assert_allclose(params["experts"]["up"]["kernel"], 0.85, atol=1e-6)
    np.testing.assert_allclose(params["norm"]["scale"], 0.85, atol=1e-6)


def test_norms_of_each_group():
    params = tree()
    grads, updates = (jax.tree.map(lambda x, k=k: k * x, params) for k in (2.0, 3.0))
    found = group_norms(params, grads, updates, [("experts", "experts"), ("", "rest")])
    expected = {
        f"diagnostics/{kind}_norm/{group}": factor * np.sqrt(size)
        for kind, factor in (("param", 1), ("grad", 2), ("update", 3))
        for group, size in (("experts", 9), ("rest", 3))
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def test_decay_takes_matrices_or_everything():
    def decayed(decay):
        group = Group(lr=0.1, weight_decay=0.5, decay=decay, schedule=CONSTANT)
        return run({"all": group}, [("", "all")], grads=jax.tree.map(jnp.zeros_like, tree()))

    some, everything = decayed("matrices"), decayed("all")
    np.testing.assert_allclose(some["experts"]["up"]["kernel"], 0.95)
    np.testing.assert_allclose(some["experts"]["up"]["bias"], 1.0)
    np.testing.assert_allclose(everything["norm"]["scale"], 0.95)


@pytest.mark.parametrize(
    "kind, make",
    [
        ("adamw", lambda torch, p: torch.optim.AdamW(p, **ADAM, weight_decay=0.1)),
        ("adam", lambda torch, p: torch.optim.Adam(p, **ADAM)),
        ("sgd", lambda torch, p: torch.optim.SGD(p, lr=0.01, momentum=0.8)),
    ],
)
def test_steps_equal_pytorch(kind, make):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4)).astype(np.float32)
    gradients = [(10.0 ** rng.uniform(-4, 2, (3, 4))).astype(np.float32) for _ in range(20)]
    theirs = torch.nn.Parameter(torch.tensor(start))
    optimizer = make(torch, [theirs])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
    group = Group(
        kind=kind, lr=0.01, weight_decay=0.1, decay="all", b1=0.8, b2=0.95, eps=1e-5,
        schedule=Schedule("cosine_periodic"),
    )
    ours = make_optimizer({"all": group}, [("", "all")], total_steps=12)
    params = {"w": jnp.asarray(start)}
    state = ours.transform.init(params)
    for gradient in gradients:
        theirs.grad = torch.tensor(gradient)
        optimizer.step()
        schedule.step()
        updates, state = ours.transform.update({"w": jnp.asarray(gradient)}, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    np.testing.assert_allclose(params["w"], theirs.detach().numpy(), atol=2e-6)


def test_schedules_at_their_corners():
    linear = make_schedule(Schedule("linear", warmup_steps=4, final=0.2), 2.0, total_steps=14)
    np.testing.assert_allclose([linear(i) for i in (0, 3, 4)], [0.5, 2.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose([linear(i) for i in (9, 14, 50)], [1.2, 0.4, 0.4], rtol=1e-6)
    cosine = make_schedule(Schedule("cosine"), 1.0, total_steps=10)
    np.testing.assert_allclose([cosine(i) for i in (0, 5, 10, 20)], [1, 0.5, 0, 0], atol=1e-6)
    cosine = make_schedule(Schedule("cosine", decay_steps=5, final=0.2), 1.0, total_steps=10)
    np.testing.assert_allclose([cosine(i) for i in (0, 5, 10)], [1, 0.2, 0.2], atol=1e-6)
    periodic = make_schedule(Schedule("cosine_periodic"), 1.0, total_steps=10)
    np.testing.assert_allclose([periodic(i) for i in (10, 20)], [0, 1], atol=1e-6)


def test_the_step_schedule_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)
    ours = make_schedule(Schedule("step", period=3, gamma=0.5), 0.02, total_steps=4)
    for step in range(10):
        assert float(ours(step)) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        theirs.step()
    warmed = make_schedule(Schedule("step", warmup_steps=4, period=3), 1.0, total_steps=99)
    np.testing.assert_allclose([warmed(i) for i in (1, 4, 6, 7, 10)], [0.5, 1, 1, 0.5, 0.25])
