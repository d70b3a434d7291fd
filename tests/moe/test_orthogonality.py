"""Orthogonality losses in closed form, and walks of the controller of their strength."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.data.config import TextData
from jaxgraph.moe import orthogonality, strength
from jaxgraph.moe.config import Adaptive, Moe, Orthogonality
from jaxgraph.moe.penalty import penalty, specialization_metrics
from jaxgraph.moe.task import MoeTask
from tests.moe import models

ONES = jnp.ones((1, 2))


def value(features, form, over, mask=ONES):
    return float(orthogonality.output_loss(jnp.asarray(features), mask, form, over))


def test_output_losses_of_known_geometry():
    # Two experts, two tokens: equal at the first token, opposite at the second.
    turned = np.zeros((2, 1, 2, 3), np.float32)
    turned[:, 0, 0, 0] = 2.0
    turned[0, 0, 1, 1], turned[1, 0, 1, 1] = 2.0, -2.0
    assert value(turned, "cosine", "token") == pytest.approx(1)
    assert value(turned, "cosine", "pool") == pytest.approx(0, abs=1e-7)
    # Means (1, 1, 0) and (1, -1, 0) are orthogonal, of squared length 2.
    assert value(turned, "cosine", "mean") == pytest.approx(0, abs=1e-7)
    assert value(turned, "gram", "mean") == pytest.approx(0.5)
    # Pooled Gram: 4 on the diagonal, 0 beside it.
    assert value(turned, "gram", "pool") == pytest.approx(9 / 2)
    first = jnp.array([[1.0, 0.0]])
    assert value(turned, "cosine", "pool", first) == pytest.approx(1)
    assert value(turned, "gram", "mean", first) == pytest.approx((9 + 16) / 2)


@pytest.mark.parametrize("over", ["token", "mean", "pool"])
def test_cosine_losses_do_not_depend_on_size_and_reach_chance(over):
    features = jax.random.normal(jax.random.key(0), (24, 2, 50, 16))
    mask = jnp.ones((2, 50))
    loss = value(features, "cosine", over, mask)
    assert value(100 * features, "cosine", over, mask) == pytest.approx(loss, rel=1e-4)
    chance = orthogonality.output_chance(16, mask.sum(), over)
    assert loss == pytest.approx(float(chance), rel=0.3)
    zeros = jax.grad(lambda x: orthogonality.output_loss(x, mask, "cosine", over))(0 * features)
    assert (np.asarray(zeros) == 0).all()


def bank(*matrices, width=4, hidden=8):
    """Experts whose input matrices are these, the others random."""
    rng = np.random.default_rng(0)
    count = len(matrices)
    return {
        "up": {"kernel": jnp.asarray(np.stack(matrices), jnp.float32)},
        "down": {"kernel": jnp.asarray(rng.normal(size=(count, hidden, width)), jnp.float32)},
        "attention": {
            "qkv": {"kernel": jnp.asarray(rng.normal(size=(count, width, 3, 2, 2)), jnp.float32)}
        },
    }


def test_weight_losses_of_known_geometry():
    one, two = np.zeros((2, 4, 8))
    one[0, 0], two[1, 1] = 3.0, 1.0
    rows = lambda *m: orthogonality.weight_rows(bank(*m), "ffn_input")  # noqa: E731
    apart, same = rows(one, two), rows(one, -one)
    assert orthogonality.weight_loss(apart, "cosine") == 0
    assert orthogonality.weight_loss(same, "cosine") == pytest.approx(1)
    # Frobenius norms 3 and 1: only (9 - 1)² / 4 is left.
    assert orthogonality.weight_loss(apart, "gram") == pytest.approx(16)
    assert orthogonality.specialization(apart) == 1
    assert orthogonality.specialization(same) == pytest.approx(0, abs=1e-6)
    alone = orthogonality.weight_rows(bank(one), "ffn_input")
    assert orthogonality.weight_loss(alone, "cosine") == 0


def test_combined_gives_each_matrix_a_padded_row_in_the_layout_of_the_seed():
    experts = bank(*np.random.default_rng(1).normal(size=(2, 4, 8)))
    rows = np.asarray(orthogonality.weight_rows(experts, "combined"))
    assert rows.shape == (6, 48)
    assert (rows[:4, 32:] == 0).all() and (rows[4:] != 0).all()
    np.testing.assert_array_equal(rows[1, :32], np.asarray(experts["up"]["kernel"][1]).T.ravel())
    qkv = np.asarray(experts["attention"]["qkv"]["kernel"][1]).reshape(4, 12)
    np.testing.assert_array_equal(rows[5], qkv.T.ravel())
    # Of the 15 pairs of rows, 6 have 32 entries at most and 9 have 48.
    cosine = math.sqrt(2 / math.pi) * (6 / math.sqrt(32) + 9 / math.sqrt(48)) / 15
    assert orthogonality.chance_level(experts, "combined") == pytest.approx(1 - cosine)


@pytest.mark.parametrize("target", ["ffn_input", "combined"])
def test_random_weights_score_the_chance_level(target):
    experts = bank(*np.random.default_rng(1).normal(size=(24, 4, 8)))
    chance = orthogonality.chance_level(experts, target)
    score = orthogonality.specialization(orthogonality.weight_rows(experts, target))
    assert float(score) == pytest.approx(chance, abs=0.01)
    assert chance < 0.9


def test_chance_level_at_the_published_width():
    experts = {"up": {"kernel": np.zeros((2, 128, 512), np.float32)}}
    assert orthogonality.chance_level(experts, "ffn_input") == pytest.approx(0.9969, abs=5e-5)


def walk(config, scores, losses=None, initial=0.1):
    """Strengths of all layers after each step."""
    state = strength.init_strength(config, scores.shape[1], initial)
    losses = jnp.zeros(len(scores)) if losses is None else losses

    def step(state, part):
        state = strength.advance(state, *part, initial, config)
        return state, state.values

    state, values = jax.lax.scan(step, state, (scores, losses))
    return np.asarray(values), state


CALM = Adaptive(every=2, decay="none", lowest=0.0, highest=9.0)


def test_strengths_start_by_layer_and_change_only_when_due():
    scores = jnp.tile(jnp.array([0.5, 0.95, 0.99]), (5, 1))
    values, state = walk(CALM, scores)
    expected = 0.1 * np.array([1.5, 0.8, 0.64 * 0.7])
    np.testing.assert_allclose(values, np.tile(expected, (5, 1)), rtol=1e-6)
    assert (int(state.step), int(state.updates)) == (5, 3)
    # Scores of steps 1 and 3 are not read.
    values, _ = walk(CALM, scores.at[1].set(0.99).at[3].set(0.0).at[4].set(0.99))
    np.testing.assert_allclose(values[:4], np.tile(expected, (4, 1)), rtol=1e-6)
    np.testing.assert_allclose(values[4], 0.07 * np.array([1, 0.8, 0.64]), rtol=1e-6)


def test_the_seeds_strength_compounds_to_a_bound_and_ours_does_not():
    scores = jnp.full((12, 1), 0.5)
    config = Adaptive(every=1, decay="none")
    np.testing.assert_allclose(walk(config, scores)[0], 0.15, rtol=1e-6)
    values, _ = walk(dataclasses.replace(config, rule="original"), scores)
    np.testing.assert_allclose(values[:3, 0], [0.15, 0.225, 0.3], rtol=1e-6)
    assert (values[3:] == np.float32(0.3)).all()


def test_time_factors():
    steps, e = jnp.array([0, 50, 100, 200, 999]), math.exp
    for decay, at_0, at_50, at_100, at_200, at_999 in (
        ("cosine", 1, 0.001 + 0.999 * (1 + math.cos(math.pi / 4)) / 2, 0.5005, 0.001, 0.001),
        ("exponential", 1, e(-0.005), e(-0.01), e(-0.02), e(-0.0999)),
        ("linear", 1, 0.75, 0.5, 0.001, 0.001),
        ("step", 1, 0.5, 0.25, 0.0625, 0.001),
        ("none", 1, 1, 1, 1, 1),
    ):
        found = strength.time_factor(steps, Adaptive(every=10, decay_updates=20, decay=decay))
        np.testing.assert_allclose(found, [at_0, at_50, at_100, at_200, at_999], rtol=1e-5)


def test_a_collapse_raises_the_strength_unless_the_loss_stands_still():
    config = dataclasses.replace(CALM, every=1, collapse_window=4, plateau_window=12)
    falling = jnp.concatenate([jnp.full(10, 0.95), jnp.array([0.95, 0.94, 0.94, 0.8])])[:, None]
    learning = jnp.linspace(5, 1, 14)
    values, _ = walk(config, falling, learning)
    np.testing.assert_allclose(values[-2:, 0], [0.1, 0.1 * 1.5 * 2], rtol=1e-6)
    values, _ = walk(config, falling, jnp.ones(14))
    np.testing.assert_allclose(values[-1, 0], 0.15, rtol=1e-6)
    # The seed's slope, the fall over the window's length, is not steep enough.
    values, _ = walk(dataclasses.replace(config, rule="original"), falling, learning)
    np.testing.assert_allclose(values[-1, 0], 0.15, rtol=1e-6)


def test_a_plateau_needs_ten_losses_and_less_than_a_hundredth_of_progress():
    def found(losses, window=20):
        history = jnp.zeros(window).at[window - len(losses) :].set(jnp.asarray(losses))
        return bool(strength.is_plateau(history, jnp.asarray(len(losses))))

    assert found([1.0] * 10) and not found([1.0] * 9)
    assert found([1.0] * 5 + [0.995] * 5) and not found([1.0] * 5 + [0.985] * 5)
    assert found([1.0] * 5 + [2.0] * 5)
    # Only the window's losses count.
    assert bool(strength.is_plateau(jnp.ones(10), jnp.asarray(1000)))


def test_losses_since_the_update_before_are_averaged():
    config = dataclasses.replace(CALM, every=3, plateau_window=3)
    losses = jnp.array([7.0, 1.0, 2.0, 3.0, 9.0, 9.0, 9.0, 5.0])
    _, state = walk(config, jnp.ones((8, 1)), losses)
    np.testing.assert_allclose(state.losses, [7, 2, 9])
    assert float(state.loss_sum) == 5


def trained_model(**options):
    config = models.small_config(mode="orthogonal", orthogonality=Orthogonality(**options))
    params = models.random_params(models.LanguageModel(config))
    features = [jax.random.normal(jax.random.key(i), (3, 1, 2, 16)) for i in (0, 1)]
    return config, params, features


def test_losses_add_up_with_their_factors():
    config, params, features = trained_model(
        weight=0.2, warmup_steps=10,
        weight_strength=0.5, weight_form="gram", weight_target="attention",
    )
    found = penalty(params, features, ONES, 5, None, config)
    outputs = sum(value(x, "cosine", "token") for x in features)
    weights = sum(
        float(orthogonality.weight_loss(
            orthogonality.weight_rows(params[f"layer_{i}"]["experts"], "attention"), "gram"
        ))
        for i in (0, 1)
    )
    assert float(found.loss) == pytest.approx(0.5 * (0.2 * outputs + 0.5 * weights), rel=1e-5)
    assert float(found.metrics["orthogonality/outputs"]) == pytest.approx(outputs / 2, rel=1e-5)
    assert float(found.metrics["orthogonality/outputs_chance"]) == pytest.approx(1 / 16)
    assert (np.asarray(found.specialization) == 0).all()
    plain = dataclasses.replace(config, mode="hgnn")
    assert penalty(params, features, ONES, 5, None, plain).metrics == {}
    assert specialization_metrics(params, plain) == {}


def test_adaptive_strengths_weigh_the_layers_and_scores_are_taken_when_due():
    config, params, features = trained_model(
        weight=0.0, warmup_steps=0, weight_strength=0.1, adaptive=Adaptive(enabled=True, every=2)
    )
    state = strength.init_strength(config.orthogonality.adaptive, 2, 0.1)
    state = state.replace(values=jnp.array([0.3, 0.0]))
    found = penalty(params, features, ONES, 1, state, config)
    rows = [orthogonality.weight_rows(params[f"layer_{i}"]["experts"], "ffn_input") for i in (0, 1)]
    expected = 0.3 * float(orthogonality.weight_loss(rows[0], "cosine"))
    assert float(found.loss) == pytest.approx(expected, rel=1e-5)
    scores = [float(orthogonality.specialization(r)) for r in rows]
    np.testing.assert_allclose(found.specialization, scores, rtol=1e-6)
    later = penalty(params, features, ONES, 1, state.replace(step=jnp.asarray(1)), config)
    assert (np.asarray(later.specialization) == 0).all()
    logged = specialization_metrics(params, config)
    assert float(logged["diagnostics/orthogonality/specialization/layer_1"]) == pytest.approx(
        scores[1]
    )
    assert float(logged["diagnostics/orthogonality/specialization_chance"]) == pytest.approx(
        1 - math.sqrt(2 / math.pi / 1024), rel=1e-5
    )


def test_a_run_adapts_its_strengths_and_logs_scores_beside_their_chance():
    config, _, _ = trained_model(
        measure="outputs", over="pool", weight_strength=0.1, warmup_steps=0,
        adaptive=Adaptive(enabled=True, every=2, decay="none", target=0.9),
    )
    config = dataclasses.replace(config, vocab_size=0, num_layers=1)
    moe = Moe(config, TextData(seq_len=8, batch_size=2))
    task = MoeTask(moe, total_steps=4, diagnostics_every=2, seed=0)
    # Random weights lie near chance, 0.975 here, above the target's band: strength relaxes.
    params = models.random_params(task.model)
    state = jax.eval_shape(task.init, jax.random.key(0))
    state = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state.replace(key=()))
    start = strength.init_strength(config.orthogonality.adaptive, 1, 0.1)
    state = state.replace(params=params, extra={"strength": start}, key=jax.random.key(1))
    ids = models.tokens(length=9)
    batch = {"inputs": ids[:, :-1], "targets": ids[:, 1:], "mask": jnp.ones((2, 8))}
    step, rows = jax.jit(task.train_step), []
    for _ in range(2):
        state, metrics = step(state, None, batch)
        rows.append({name: float(x) for name, x in metrics.items()})
    strengths = [row["orthogonality/strength/layer_0"] for row in rows]
    np.testing.assert_allclose(strengths, [0.1, 0.07], rtol=1e-6)
    assert rows[0]["orthogonality/outputs_chance"] == pytest.approx(1 / 256)
    name = "diagnostics/orthogonality/specialization"
    assert math.isnan(rows[0][f"{name}/layer_0"])
    assert rows[1][f"{name}/layer_0"] == pytest.approx(rows[1][f"{name}_chance"], abs=0.03)
    total = sum(rows[0][f"loss/{x}"] for x in ("cross_entropy", "orthogonality",
                                               "weight_orthogonality"))
    assert rows[0]["loss"] == pytest.approx(total, rel=1e-6)


def test_impossible_options_are_named():
    found = dict(Orthogonality(form="gram", adaptive=Adaptive(enabled=True)).problems())
    assert found.keys() == {"form", "adaptive.enabled"}
    assert dict(Adaptive(lowest=0.4).problems()).keys() == {"lowest"}
    assert not dict(Orthogonality(form="gram", over="pool").problems())
