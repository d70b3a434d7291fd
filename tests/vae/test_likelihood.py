"""Likelihood, KL and their weights against closed forms and sums over everything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.vae.bits import observe, unpack_bits
from jaxgraph.vae.config import Likelihood, Objective
from jaxgraph.vae.divergence import (
    at_least,
    beta_schedule,
    free_bits,
    kl_normal,
    log_gaussian,
    log_mixture,
)
from jaxgraph.vae.likelihood import log_likelihood
from jaxgraph.vae.metrics.levels import noise_floor

RNG = np.random.default_rng(5)


def draw(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def test_the_mixture_integrates_to_one():
    grid = jnp.linspace(-1, 2, 3001)[:, None]
    for logit in (-3.0, 0.0, 1.5):
        density = jnp.exp(log_likelihood(grid, jnp.full_like(grid, logit), Likelihood()))
        assert float(jnp.trapezoid(density, grid[:, 0])) == pytest.approx(1, abs=1e-4)
        upper = jnp.where(grid[:, 0] > 0.5, density, 0)
        assert float(jnp.trapezoid(upper, grid[:, 0])) == pytest.approx(
            float(jax.nn.sigmoid(logit)), abs=1e-4
        )


def test_bernoulli_probabilities_sum_to_one():
    rows = jnp.asarray(np.unpackbits(np.arange(8, dtype=np.uint8)[:, None], axis=1)[:, 5:], float)
    logits = jnp.broadcast_to(draw(1, 3), (8, 3))
    likelihood = Likelihood("bernoulli")
    assert float(jnp.exp(log_likelihood(rows, logits, likelihood)).sum()) == pytest.approx(1)


def test_the_noise_floor_is_what_a_decoder_that_knows_all_pays():
    bits = RNG.integers(0, 2, (500, 64))
    x = jnp.asarray(bits + 0.05 * RNG.normal(size=bits.shape), jnp.float32)
    knowing = jnp.asarray(np.where(bits, 40.0, -40.0), jnp.float32)
    paid = -log_likelihood(x, knowing, Likelihood()).mean()
    assert float(paid) == pytest.approx(noise_floor(64, 0.05), abs=0.5)


def test_outliers_and_certain_decoders_stay_finite():
    x = jnp.asarray([[1.9, -0.4, 0.5, 1.0]])
    value, gradient = jax.value_and_grad(
        lambda logits: log_likelihood(x, logits, Likelihood()).sum()
    )(jnp.asarray([[-90.0, 90.0, 0.0, -90.0]]))
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_kl_equals_the_mean_of_log_ratios():
    mu, logvar = draw(1, 3), draw(1, 3)
    z = mu + jnp.exp(logvar / 2) * draw(200_000, 3)
    zero = jnp.zeros((1, 3))
    ratio = log_gaussian(z, mu, logvar) - log_gaussian(z, zero, zero)
    np.testing.assert_allclose(kl_normal(mu, logvar)[0], ratio.mean(0), atol=0.03)


def test_free_bits_hold_the_batch_or_each_sample():
    kl = jnp.asarray([[0.0, 1.0], [0.4, 3.0]])
    ones = jnp.ones(2)
    floor = Objective(free_bits=0.3)
    total = lambda options: lambda kl: free_bits(kl, ones, options)  # noqa: E731
    value, gradient = jax.value_and_grad(total(floor))(kl)
    assert float(value) == pytest.approx(0.3 + 2.0)
    np.testing.assert_allclose(gradient, [[0, 0.5], [0, 0.5]])
    value, gradient = jax.value_and_grad(
        total(Objective(free_bits=0.3, free_bits_over="sample"))
    )(kl)
    assert float(value) == pytest.approx((0.3 + 0.4) / 2 + 2.0)
    np.testing.assert_allclose(gradient, [[0, 0.5], [0.5, 0.5]])
    plain = free_bits(kl, ones, Objective())
    assert float(plain) == pytest.approx(2.2)
    # Rows of mask 0 do not count.
    masked = free_bits(kl, jnp.asarray([0.0, 1.0]), Objective())
    assert float(masked) == pytest.approx(3.4)


def test_the_floor_passes_gradient_at_equality():
    assert float(jax.grad(lambda x: at_least(x, 0.5))(0.5)) == 1.0
    assert float(jax.grad(lambda x: at_least(x, 0.5))(0.4)) == 0.0


def test_the_mixture_prior_is_a_mean_of_densities():
    z, mu, logvar = draw(4, 3), draw(5, 3), draw(5, 3)
    each = np.stack([
        np.exp(np.asarray(log_gaussian(z, mu[i][None], logvar[i][None])).sum(-1)) for i in range(5)
    ])
    np.testing.assert_allclose(log_mixture(z, mu, logvar), np.log(each.mean(0)), rtol=1e-4)


def test_beta_rises_and_stays():
    found = [float(beta_schedule(jnp.asarray(step), 0.5, 10)) for step in (0, 5, 10, 99)]
    assert found == [0.0, 0.25, 0.5, 0.5]
    assert float(beta_schedule(jnp.asarray(0), 0.5, 0)) == 0.5


def test_bits_are_unpacked_least_significant_first():
    number = 0b1000_0000_0000_0000_0000_0101
    packed = jnp.asarray(np.frombuffer(number.to_bytes(3, "little"), np.uint8))[None]
    bits = np.asarray(unpack_bits(packed))[0]
    assert bits.shape == (24,) and list(np.flatnonzero(bits)) == [0, 2, 23]
    x = observe(jnp.tile(packed, (4000, 1)), jax.random.key(0), Likelihood())
    noise = np.asarray(x) - bits
    assert noise.std() == pytest.approx(0.05, rel=0.01) and abs(noise.mean()) < 1e-3
    binary = observe(packed, jax.random.key(0), Likelihood("bernoulli"))
    assert (np.asarray(binary)[0] == bits).all()
