"""Tighter lower bounds of the log-likelihood than the evidence lower bound."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgraph.vae.divergence import log_gaussian, log_mixture
from jaxgraph.vae.likelihood import log_likelihood
from jaxgraph.vae.model import MixtureVae


def iwae_bound(
    model: MixtureVae, params: Any, x: Float[Array, "b d"], key: Any, *, samples: int
) -> Float[Array, " b"]:
    """Importance-weighted bound of log p(x) in nats, each row from `samples` latents.

    Burda et al. 2016 (arXiv:1509.00519), eq. 8: log mean p(x, z) / q(z | x). One sample gives the
    evidence lower bound; more raise it, towards log p(x). Samples are drawn one after the other, so
    memory does not grow with them.
    """
    posterior = model.apply({"params": params}, x, method="encode")
    mixture = model.config.prior.kind == "mixture"
    prior = model.apply({"params": params}, method="prior") if mixture else None

    def add(total, key):
        z = posterior.sample(jax.random.normal(key, posterior.mu.shape, posterior.mu.dtype))
        logits = model.apply({"params": params}, z, method="decode")
        weight = log_likelihood(x, logits, model.config.likelihood)
        weight += log_prior(z, prior) - log_gaussian(z, *posterior).sum(-1)
        return jnp.logaddexp(total, weight), None

    start = jnp.full(len(x), -jnp.inf, x.dtype)
    total, _ = jax.lax.scan(add, start, jax.random.split(key, samples))
    return total - math.log(samples)


def log_prior(z: Float[Array, "b z"], components: Any = None) -> Float[Array, " b"]:
    """Log density of latents under the standard normal, or under a mixture of Gaussians."""
    if components is None:
        standard = jnp.zeros_like(z)
        return log_gaussian(z, standard, standard).sum(-1)
    return log_mixture(z, *components)
