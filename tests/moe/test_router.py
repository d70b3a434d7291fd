"""The top-k router: its choice, its two implementations, its losses and its measures."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph import config
from jaxgraph.data.config import TextData
from jaxgraph.errors import UserError
from jaxgraph.moe import balance
from jaxgraph.moe.config import Ghosts, Moe, Optim, Router
from jaxgraph.moe.experts import make_block, run_bank
from jaxgraph.moe.grouped import make_plan, run_grouped, should_group
from jaxgraph.moe.router import Routing, choose, mix
from jaxgraph.moe.task import MoeTask
from jaxgraph.nn.attention import causal_mask
from tests.moe import models

EXPERTS, ROWS, LENGTH = 4, 2, 9
TOKENS = ROWS * LENGTH


def routing_by(kind):
    """Gates of every token with 2 of 4 experts."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(ROWS, LENGTH, EXPERTS)).astype(np.float32)
    logits += {"unequal": [1.5, 0.5, 0, -0.5], "starved": [0, 0, -99, 0], "two": [9, 0, 0, 9]}[kind]
    return choose(jnp.asarray(logits), jnp.ones(EXPERTS), 2)


def bank(**options):
    settings = models.small_config(mode="gnn", num_experts=EXPERTS, **options)
    params = models.random_params(models.LanguageModel(settings))["layer_0"]["experts"]
    x = np.random.default_rng(4).normal(size=(ROWS, LENGTH, settings.width))
    return make_block(settings), params, jnp.asarray(x, jnp.float32)


BLOCK, PARAMS, X = bank()


@partial(jax.jit, static_argnums=0)
def layer_gradients(implementation, params, x, gates, routing):
    def score(params, x, gates):
        served = replace(routing, gates=gates)
        mask = causal_mask(LENGTH)
        if implementation == "dense":
            outputs, _ = run_bank(
                BLOCK, params, x, mask, train=False, dropout_key=None, loop="map"
            )
        else:
            outputs, _ = run_grouped(
                BLOCK, params, x, mask, served.served, 2, dropout_key=None, tile=4,
                loop=implementation,
            )
        mixed = mix(served, outputs)
        return jnp.sin(3 * mixed).sum(), mixed

    return jax.value_and_grad(score, (0, 1, 2), has_aux=True)(params, x, gates)


@pytest.mark.parametrize("loop", ["map", "vmap"])
@pytest.mark.parametrize("kind", ["unequal", "starved", "two"])
def test_both_implementations_give_the_same_outputs_and_gradients(kind, loop):
    routing = routing_by(kind)
    expected, found = (
        layer_gradients(name, PARAMS, X, routing.gates, routing) for name in ("dense", loop)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=5e-5), found, expected)
    experts, _, gates = found[1]
    idle = {"unequal": [], "starved": [2], "two": [1, 2]}[kind]
    for e in range(EXPERTS):
        sizes = [float(jnp.abs(leaf[e]).max()) for leaf in jax.tree.leaves(experts)]
        assert max(sizes) == 0 if e in idle else min(sizes) > 0
    assert jnp.abs(gates).min() > 0


def test_an_expert_gives_its_input_where_it_does_not_serve():
    served = routing_by("unequal").served
    found, _ = run_grouped(
        BLOCK, PARAMS, X, causal_mask(LENGTH), served, 2, dropout_key=None, loop="map"
    )
    same = (found == X[None]).all(-1)
    np.testing.assert_array_equal(same, jnp.moveaxis(served == 0, -1, 0))


def test_grouped_dropout_follows_its_key_in_attention_and_ffn():
    block, params, x = bank(dropout=0.5)
    routing = routing_by("two")
    run = jax.jit(lambda params, key: run_grouped(
        block, params, x, causal_mask(LENGTH), routing.served, 2, dropout_key=key, loop="map"
    )[0])
    nothing = partial(jax.tree.map, jnp.zeros_like)
    silent = params["attention"] | {"out": nothing(params["attention"]["out"])}
    for part in (params | {"attention": silent}, params | {"down": nothing(params["down"])}):
        first = run(part, jax.random.key(0))
        np.testing.assert_array_equal(first, run(part, jax.random.key(0)))
        assert np.abs(first - run(part, jax.random.key(1))).max() > 1e-2
    # The FFN's last dropout leaves half of its output zero.
    added = run(params | {"attention": silent}, jax.random.key(0)) - x[None]
    kept = (added[jnp.moveaxis(routing.served, -1, 0) > 0] != 0).mean()
    assert 0.4 < kept < 0.6


@pytest.mark.parametrize("top_k, tile", [(1, 4), (2, 4), (2, 64), (3, 1), (4, 5)])
def test_a_plan_has_one_slot_per_assignment_in_a_tile_of_its_expert(top_k, tile):
    rng = np.random.default_rng(0)
    uneven = [13, 1, 1, 3]
    for weights in (np.ones(4), np.array([1, 1e-9, 1e-9, 1e-9]), np.array(uneven)):
        keys = rng.gumbel(size=(TOKENS, 4)) + np.log(weights)
        served = np.zeros((4, TOKENS), bool)
        for n, chosen in enumerate(np.argsort(-keys, 1)[:, :top_k]):
            served[chosen, n] = True
        plan = jax.tree.map(np.asarray, make_plan(jnp.asarray(served), top_k, tile))
        pairs = np.flatnonzero(served)
        np.testing.assert_array_equal(plan.pair[plan.slot[pairs]], pairs)
        np.testing.assert_array_equal(plan.expert[plan.slot[pairs] // tile], pairs // TOKENS)
        assert (plan.slot[~served.reshape(-1)] == len(plan.pair)).all()
        assert (plan.pair < served.size).sum() == TOKENS * top_k


@pytest.mark.parametrize("implementation", ["dense", "grouped"])
def test_all_experts_together_are_a_plain_softmax_mean(implementation):
    model, params, _ = models.make(
        "gnn", num_layers=1, router=Router(3, implementation=implementation)
    )
    out = jax.jit(lambda p: model.apply({"params": p}, models.tokens()))(params)
    x, layer = np.asarray(out.embedded, np.float64), out.layers[0]
    normed = x - x.mean(-1, keepdims=True)
    normed /= np.sqrt((normed**2).mean(-1, keepdims=True) + 1e-5)
    odds = np.exp(normed @ np.asarray(params["layer_0"]["router"]["kernel"], np.float64))
    weights = odds / odds.sum(-1, keepdims=True)
    expected = x + np.einsum("bte,ebtd->btd", weights, layer.outputs)
    np.testing.assert_allclose(layer.hidden, expected, atol=1e-5)
    assert weights.std() > 0.05


def test_every_token_gets_its_experts_and_gates_that_sum_to_one():
    for kind in ("unequal", "starved", "two"):
        routing = routing_by(kind)
        assert (routing.served.sum(-1) == 2).all()
        np.testing.assert_allclose(routing.shares.sum(-1), 1, atol=1e-6)
        ratio = routing.gates[..., 0] / routing.gates[..., 1]
        best = jnp.take_along_axis(routing.probabilities, routing.chosen, -1)
        np.testing.assert_allclose(ratio, best[..., 0] / best[..., 1], rtol=1e-4)
    tie = choose(jnp.zeros((1, 1, 5)), jnp.ones(5), 3)
    assert tie.chosen.tolist() == [[[0, 1, 2]]]


def test_ghosts_compete_by_their_level_and_sleeping_ones_do_not():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 50, 4)), jnp.float32)
    asleep = choose(logits, jnp.array([1.0, 1, 0, 0]), 2)
    assert asleep.chosen.max() == 1 and (asleep.probabilities[..., 2:] == 0).all()
    np.testing.assert_allclose(
        asleep.probabilities[..., :2], jax.nn.softmax(logits[..., :2]), atol=1e-6
    )
    half = choose(jnp.zeros((1, 1, 4)), jnp.array([1.0, 1, 0.5, 0]), 2)
    np.testing.assert_allclose(half.probabilities[0, 0], [0.4, 0.4, 0.2, 0], atol=1e-6)
    model, params, ghosts = models.make("top-2 turned, ghosts awake")
    run = jax.jit(lambda p: model.apply({"params": p}, models.tokens(), ghosts).layers[0].routing)
    routing = run(params)
    assert routing.served[..., 3:].sum() > 0
    np.testing.assert_allclose(routing.levels, [1, 1, 1, 1, 0.3], rtol=1e-6)


def even(logits):
    """Every expert serves half of the tokens, in turn."""
    count = logits.shape[1]
    chosen = np.stack([np.arange(count) % 4, (np.arange(count) + 1) % 4], -1)[None]
    gates = jnp.full(chosen.shape, 0.5)
    return Routing(logits, jnp.asarray(chosen), gates, jnp.ones(4))


def test_losses_of_known_loads():
    ones = jnp.ones((1, 8))
    flat = even(jnp.full((1, 8, 4), 0.3))
    np.testing.assert_allclose(balance.balance_loss(flat, ones), 1, rtol=1e-6)
    np.testing.assert_allclose(balance.z_loss(flat, ones), (0.3 + np.log(4)) ** 2, rtol=1e-6)
    same = choose(jnp.zeros((1, 8, 4)) + jnp.array([[[20.0, 20, 0, 0]]]), jnp.ones(4), 2)
    np.testing.assert_allclose(balance.balance_loss(same, ones), 4 / 2, rtol=1e-5)
    # A fair share goes by level: 1, 1 and 0.5 of 2.5, and nobody for a sleeping ghost.
    levels = jnp.array([1.0, 1, 0.5, 0])
    fair = choose(jnp.zeros((1, 8, 4)), levels, 2)
    np.testing.assert_allclose(balance.balance_loss(fair, ones), 1, rtol=1e-5)


def test_losses_push_the_busy_down_and_large_logits_towards_zero():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(1, 30, 4)), jnp.float32)
    logits = logits + jnp.array([[[2.0, 0, 0, -2]]])
    of = lambda loss: jax.grad(  # noqa: E731
        lambda logits: loss(choose(logits, jnp.ones(4), 2), jnp.ones((1, 30)))
    )(logits).sum((0, 1))
    busy = of(balance.balance_loss)
    assert busy[0] > 0 > busy[3] and abs(float(busy.sum())) < 1e-5
    assert (of(balance.z_loss) > 0).all()


def test_padding_counts_nowhere():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 9, 4)), jnp.float32)
    mask = jnp.ones((2, 9)).at[:, 5:].set(0)
    measured = [
        balance.router_losses((choose(logits[:, :n], jnp.ones(4), 2),), Router(2), mask[:, :n])
        for n in (5, 9)
    ]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), *measured)


def test_a_collapsed_layer_is_seen_and_an_even_one_is_not():
    mask, logits = jnp.ones((1, 40)), jnp.zeros((1, 40, 4))
    collapsed = choose(logits + jnp.array([[[5.0, 5, 0, 0]]]), jnp.ones(4), 2)
    metrics = balance.load_metrics(
        balance.measure_loads([even(logits), collapsed], mask), Router(2)
    )
    assert metrics["router/collapsed"] == 1
    np.testing.assert_allclose(metrics["router/load_max/layer_0"], 1, rtol=1e-6)
    np.testing.assert_allclose(metrics["router/load_max/layer_1"], 2, rtol=1e-6)
    np.testing.assert_allclose(metrics["router/load/layer_1/expert_0"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(metrics["router/entropy/layer_0"], 1, rtol=1e-6)
    assert metrics["router/entropy/layer_1"] < 0.6
    # A ghost that has just woken is not blamed for its small load.
    waking = choose(logits[..., :3], jnp.array([1.0, 1, 0.01]), 2)
    loads = balance.measure_loads([waking], mask)
    assert balance.load_metrics(loads, Router(2))["router/collapsed"] == 0


def make_task(accumulate=1, **router):
    model = models.small_config(
        mode="gnn", vocab_size=0, num_layers=1, router=Router(2, **router), num_experts=4
    )
    data = TextData(seq_len=16, batch_size=8, max_passages=60, validation=0.1, packing="rows")
    optim = Optim(loss_chunk=32, accumulate=accumulate)
    return MoeTask(Moe(model, data, optim), total_steps=50, diagnostics_every=1000, seed=0)


def test_micro_batches_equal_one_big_batch_and_losses_are_added():
    whole = make_task(balance_weight=0.5)
    batch = whole.batches("train")[0]
    batch["mask"] *= np.arange(16)[None] < np.array([16, 1, 7, 0, 12, 3, 0, 0])[:, None]
    state = jax.jit(whole.init)(jax.random.key(0))
    expected, expected_metrics = jax.jit(whole.train_step)(state, None, batch)
    split = make_task(balance_weight=0.5, accumulate=4)
    found, metrics = jax.jit(split.train_step)(state, None, batch)
    for x, y in zip(*(jax.tree.leaves(s.opt_state) for s in (found, expected)), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)
    assert metrics.keys() == expected_metrics.keys()
    for name, value in expected_metrics.items():
        assert jnp.ndim(value) == 0
        np.testing.assert_allclose(metrics[name], value, rtol=2e-5, atol=1e-6, err_msg=name)
    parts = [expected_metrics[f"loss/{p}"] for p in ("cross_entropy", "router_balance", "router_z")]
    np.testing.assert_allclose(expected_metrics["loss"], sum(parts), rtol=1e-6)
    np.testing.assert_allclose(parts[1], 0.5 * expected_metrics["router/balance/layer_0"])
    loads = [expected_metrics[f"router/load/layer_0/expert_{e}"] for e in range(4)]
    np.testing.assert_allclose(sum(loads), 1, rtol=1e-6)
    assert all(min(parts) > 0 for parts in (parts, loads))


def test_the_task_loss_alone_moves_the_router():
    model, params, _ = models.make("gnn", num_layers=1, router=Router(2))
    grad = jax.jit(jax.grad(
        lambda p: jnp.sin(model.apply({"params": p}, models.tokens()).hidden).sum()
    ))(params)
    assert jnp.abs(grad["layer_0"]["router"]["kernel"]).min() > 0


def test_what_auto_picks():
    make = lambda **options: models.small_config(  # noqa: E731
        **(dict(mode="gnn", num_experts=8, router=Router(2)) | options)
    )
    pick = lambda config, train=True, decoding=False: should_group(  # noqa: E731
        config, train=train, decoding=decoding
    )
    assert pick(make()) and pick(make(), train=False) and not pick(make(), decoding=True)
    assert not pick(make(num_experts=3)) and not pick(make(num_experts=4), train=False)
    assert not pick(make(mode="ghost", coupling="none", ghosts=Ghosts(2)))
    assert not pick(make(train_mode="geometric_routed"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("router.top_k=1", "router.top_k: 1 leaves the router without gradient"),
        ("router.top_k=5 mode=gnn ghosts.count=0", "router.top_k: 5 of 4 experts"),
        ("router.top_k=2", "router.top_k: 2 in mode 'ghost', whose hypergraph"),
        ("router.top_k=2 mode=hgnn ghosts.count=0", "router.top_k: 2 in mode 'hgnn'"),
        ("router.top_k=2 coupling=none train_mode=geometric", "train_mode 'geometric'"),
        ("router.top_k=2 coupling=none ghosts.mixing=original", "the seed's ghosts"),
        ("router.top_k=2 coupling=none router.implementation=grouped",
         "router.implementation: 'grouped'"),
        ("router.top_k=2 mode=gnn ghosts.count=0 train_mode=geometric_routed "
         "router.implementation=grouped", "router.implementation: 'grouped'"),
        ("router.collapse=1.5", "router.collapse: got 1.5"),
    ],
)
def test_combinations_without_meaning_are_refused(options, words):
    argv = [f"--task.model.{option}" for option in options.split()]
    with pytest.raises(UserError) as caught:
        config.load(["--config", "configs/smoke/moe.yaml", *argv])
    assert words in str(caught.value) and "allowed" in str(caught.value)


def test_a_router_that_nobody_trains_is_refused():
    argv = "mode=gnn ghosts.count=0 router.top_k=2".split()
    argv = [f"--task.model.{option}" for option in argv]
    with pytest.raises(UserError, match="optim.trainable: 'experts_only' with a router"):
        config.load([
            "--config", "configs/smoke/moe.yaml", *argv, "--task.optim.trainable=experts_only"
        ])
