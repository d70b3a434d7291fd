"""Probability of an observation, given the decoder's logits (spec/vae.md, section 5)."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgraph.vae.config import Likelihood


def log_likelihood(
    x: Float[Array, "*b d"], logits: Float[Array, "*b d"], likelihood: Likelihood
) -> Float[Array, "*b"]:
    """Log density of each row in nats; `bernoulli` is a log probability of zeros and ones."""
    one, zero = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    if likelihood.kind == "bernoulli":
        return jnp.sum(x * one + (1 - x) * zero, axis=-1)
    sigma = likelihood.sigma
    one = one + log_normal(x - 1, sigma)
    zero = zero + log_normal(x, sigma)
    return jnp.sum(jnp.logaddexp(one, zero), axis=-1)


def log_normal(distance: Float[Array, "*n"], sigma: float) -> Float[Array, "*n"]:
    """Log density of a Gaussian with standard deviation `sigma` at a distance from its mean."""
    constant = math.log(sigma) + math.log(2 * math.pi) / 2
    return -jnp.square(distance) / (2 * sigma**2) - constant

