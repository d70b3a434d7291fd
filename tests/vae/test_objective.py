"""The loss and its options: separability with and without gradient, priors, the controller."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.vae.bits import unpack_bits
from jaxgraph.vae.config import Controller, Objective, Separability
from jaxgraph.vae.controller import init_controller
from jaxgraph.vae.objective import Draws
from tests.vae import models

SCORED = Separability(weight=3.0, warmup_steps=0, ramp_steps=1)
OBJECTIVE = Objective(beta=0.5, beta_warmup_steps=10)
ROUNDING = 1e-4  # sums of two programs, added over all parameters


def loss(objective, params, step=10, batch=None, extra=None):
    batch = jax.tree.map(jnp.asarray, models.batch() if batch is None else batch)
    key = jax.random.key(4)
    return jax.jit(objective)(params, None, extra or {}, batch, key, jnp.asarray(step))


def gradient(objective, params, **options):
    return jax.jit(jax.grad(lambda params: loss(objective, params, **options).loss))(params)


def norm_of_difference(a, b):
    pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return sum(float(jnp.abs(x - y).sum()) for x, y in pairs)


@pytest.mark.parametrize("name", models.KINDS)
def test_the_loss_is_the_sum_of_its_terms(name):
    objective = models.make_objective(name, OBJECTIVE, SCORED)
    params = models.random_params(objective.model.config)
    out = loss(objective, params, step=4)
    m = out.metrics
    assert float(m["elbo/beta"]) == pytest.approx(0.2)
    expected = m["elbo/nll"] + m["elbo/beta"] * m["elbo/kl"] - 3.0 * m["separability/score"]
    assert float(out.loss) == pytest.approx(float(expected), rel=1e-6)
    assert out.weight == 12 and float(m["separability/score"]) > 0


def test_separability_with_gradient_moves_parameters_and_without_does_not():
    plain, with_gradient, without = (
        models.make_objective("real", OBJECTIVE, options)
        for options in (
            Separability(), SCORED, Separability(**vars(SCORED) | {"gradient": False}),
        )
    )  # fmt: skip
    params = models.random_params(plain.model.config)
    base = gradient(plain, params)
    assert norm_of_difference(base, gradient(with_gradient, params)) > 1e-3
    assert norm_of_difference(base, gradient(without, params)) < ROUNDING
    # It scores the latents of another pass, as the seed does.
    scores = [loss(o, params).metrics["separability/score"] for o in (with_gradient, without)]
    assert scores[0] != scores[1] and float(scores[1]) > 0


def test_a_weight_of_zero_leaves_the_gradient_alone():
    params = models.random_params(models.small())
    plain = gradient(models.make_objective("real", OBJECTIVE), params)
    early = gradient(models.make_objective("real", OBJECTIVE, SCORED), params, step=0)
    late = Separability(weight=3.0, warmup_steps=100)
    warming = gradient(models.make_objective("real", OBJECTIVE, late), params, step=50)
    assert norm_of_difference(plain, warming) < ROUNDING
    assert norm_of_difference(gradient(
        models.make_objective("real", OBJECTIVE), params, step=0
    ), early) < ROUNDING


def test_pseudo_inputs_learn():
    objective = models.make_objective("mixture prior", OBJECTIVE)
    found = gradient(objective, models.random_params(objective.model.config))
    assert float(jnp.abs(found["pseudo_inputs"]).max()) > 1e-5


def test_masked_rows_do_not_count():
    objective = models.make_objective("real", OBJECTIVE, SCORED)
    params = models.random_params(objective.model.config)
    batch = models.batch()
    batch["mask"][-4:] = 0
    other = batch | {"bits": batch["bits"].copy()}
    other["bits"][-4:] ^= 255
    first, second = (loss(objective, params, batch=b) for b in (batch, other))
    assert first.weight == 8
    for name, value in first.metrics.items():
        np.testing.assert_allclose(second.metrics[name], value, rtol=1e-5, err_msg=name)


def test_parts_of_a_batch_add_up_to_the_whole():
    objective = models.make_objective("real", OBJECTIVE)
    params, batch = models.random_params(objective.model.config), models.batch()
    x = unpack_bits(jnp.asarray(batch["bits"]))
    mask = jnp.asarray(np.arange(12) % 5 < 3, jnp.float32)
    noise = jax.random.normal(jax.random.key(0), (12, objective.model.latents))
    labels = jnp.asarray(batch["label"])

    def part(rows):
        return objective.loss(
            params, {}, x[rows], labels[rows], mask[rows], Draws(noise[rows]), jnp.asarray(5)
        )

    whole, parts = part(slice(0, 12)), [part(slice(0, 4)), part(slice(4, 12))]
    total = sum(p.loss * p.weight for p in parts) / sum(p.weight for p in parts)
    assert float(total) == pytest.approx(float(whole.loss), rel=1e-6)


def test_free_bits_are_reported_beside_the_true_kl():
    objective = models.make_objective("real", Objective(free_bits=2.0))
    metrics = loss(objective, models.random_params(objective.model.config)).metrics
    assert float(metrics["elbo/kl_floored"]) >= 2.0 * objective.model.latents
    assert float(metrics["elbo/kl_floored"]) > float(metrics["elbo/kl"])


def test_the_controller_sets_beta():
    config = Controller(target=3.0)
    objective = models.make_objective("real", Objective(beta=9.0, controller=config))
    params = models.random_params(objective.model.config)
    extra = {"controller": init_controller(config).replace(beta=jnp.asarray(0.25))}
    out = loss(objective, params, extra=extra)
    assert float(out.metrics["elbo/beta"]) == 0.25
    after = objective.update_extra(extra, out.stats)["controller"]
    assert after.integral != 0
    assert objective.update_extra(extra, {"kl": jnp.asarray(3.0)})["controller"].integral == 0


def test_labels_of_both_streams_score_alike():
    objective = models.make_objective("real", OBJECTIVE, SCORED)
    params = models.random_params(objective.model.config)
    batch = models.batch()
    stream = batch | {"label": np.array([4, 3, 5], np.int32)[batch["label"]]}
    first, second = (loss(objective, params, batch=b).loss for b in (batch, stream))
    assert first == second
