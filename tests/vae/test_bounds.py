"""Importance-weighted bounds, the parts of the KL, units in use, and the mixture prior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.vae.bounds import iwae_bound, log_prior
from jaxgraph.vae.decomposition import active_units, decompose_kl
from jaxgraph.vae.divergence import kl_normal, log_gaussian
from jaxgraph.vae.likelihood import log_likelihood
from jaxgraph.vae.model import MixtureVae
from tests.vae import models

RNG = np.random.default_rng(11)


def draw(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def setting(name):
    model = models.small(name)
    x = draw(6, models.INPUTS) if name != "bernoulli" else jnp.round(jnp.abs(draw(6, 24)) % 1)
    return MixtureVae(model), models.random_params(model), x


@pytest.mark.parametrize("name", ["real", "bernoulli", "mixture prior"])
def test_more_samples_raise_the_bound(name):
    model, params, x = setting(name)
    keys = jax.random.split(jax.random.key(0), 200)
    means = [
        float(jax.vmap(lambda key, k=k: iwae_bound(model, params, x, key, samples=k))(keys).mean())
        for k in (1, 4, 32)
    ]
    assert means[0] < means[1] < means[2]


def test_one_sample_is_the_evidence_lower_bound():
    model, params, x = setting("real")
    keys = jax.random.split(jax.random.key(1), 3000)
    bound = jax.vmap(lambda key: iwae_bound(model, params, x, key, samples=1))(keys).mean(0)
    mu, logvar = model.apply({"params": params}, x, method="encode")

    def reconstruction(key):
        z = mu + jnp.exp(logvar / 2) * jax.random.normal(key, mu.shape)
        logits = model.apply({"params": params}, z, method="decode")
        return log_likelihood(x, logits, model.config.likelihood)

    expected = jax.vmap(reconstruction)(keys).mean(0) - kl_normal(mu, logvar).sum(-1)
    np.testing.assert_allclose(bound, expected, rtol=3e-3, atol=0.3)


def test_a_decoder_that_ignores_the_latents_gives_the_true_likelihood():
    model, params, x = setting("real")
    heads = {
        name: params[name] | {"kernel": scale * params[name]["kernel"]}
        for name, scale in (("encoder_head", 0.3), ("decoder_head", 0.0))
    }
    params = params | heads
    logits = jnp.broadcast_to(params["decoder_head"]["bias"], x.shape)
    exact = log_likelihood(x, logits, model.config.likelihood)
    found = iwae_bound(model, params, x, jax.random.key(0), samples=4000)
    np.testing.assert_allclose(found, exact, atol=0.2)
    keys = jax.random.split(jax.random.key(1), 2000)
    few = jax.vmap(lambda key: iwae_bound(model, params, x, key, samples=1))(keys).mean(0)
    kl = kl_normal(*model.apply({"params": params}, x, method="encode")).sum(-1)
    np.testing.assert_allclose(few, exact - kl, atol=0.2)
    assert float(kl.min()) > 0.1


def posterior(rows, width=3):
    return draw(rows, width), 0.3 * draw(rows, width) - 2


@pytest.mark.parametrize("block", [7, 64, 256])
def test_the_parts_sum_to_the_kl(block):
    mu, logvar = posterior(50)
    z = mu + jnp.exp(logvar / 2) * draw(50, 3)
    parts = decompose_kl(z, mu, logvar, block=block)
    estimate = (log_gaussian(z, mu, logvar).sum(-1) - log_prior(z)).mean()
    assert float(parts.kl) == pytest.approx(float(estimate), abs=1e-4)
    whole = decompose_kl(z, mu, logvar)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_each_part_finds_its_own_structure():
    rows = 400
    apart = jnp.arange(rows, dtype=jnp.float32)[:, None] * jnp.ones((1, 2))
    small = jnp.full((rows, 2), -8.0)
    parts = decompose_kl(apart, apart, small)
    # Every row has a place of its own: all of its index is known, in either dimension.
    assert float(parts.mutual_information) == pytest.approx(np.log(rows), abs=1e-3)
    assert float(parts.total_correlation) == pytest.approx(np.log(rows), abs=1e-3)
    same = jnp.zeros((rows, 2))
    parts = decompose_kl(draw(rows, 2), same, same)
    np.testing.assert_allclose(parts, 0, atol=1e-5)
    moved = decompose_kl(3 + draw(4000, 1), jnp.full((4000, 1), 3.0), jnp.zeros((4000, 1)))
    assert float(moved.dimension_wise) == pytest.approx(4.5, abs=0.2)
    assert float(moved.mutual_information) == pytest.approx(0, abs=1e-4)


def test_units_are_active_when_their_means_vary():
    mu = jnp.stack([draw(500), 0.05 * draw(500), jnp.full(500, 9.0), 0.2 * draw(500)], axis=1)
    assert active_units(mu).tolist() == [True, False, False, True]
