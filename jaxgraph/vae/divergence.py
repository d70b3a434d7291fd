"""KL divergence of the posterior from the prior, its floor and its weight over the steps."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgraph.nn import across
from jaxgraph.vae.config import Objective

ACTIVE_KL = 0.01
"""Mean KL in nats above which a latent dimension counts as used (spec/vae.md, 17)."""


def kl_normal(mu: Float[Array, "b z"], logvar: Float[Array, "b z"]) -> Float[Array, "b z"]:
    """KL of each latent coordinate from a standard normal, in nats."""
    return -0.5 * (1 + logvar - jnp.square(mu) - jnp.exp(logvar))


def log_gaussian(
    z: Float[Array, "*#n"], mu: Float[Array, "*#n"], logvar: Float[Array, "*#n"]
) -> Float[Array, "..."]:
    """Log density of each coordinate under a diagonal Gaussian."""
    return -0.5 * (math.log(2 * math.pi) + logvar + jnp.square(z - mu) * jnp.exp(-logvar))


def log_mixture(
    z: Float[Array, "b z"], mu: Float[Array, "c z"], logvar: Float[Array, "c z"]
) -> Float[Array, " b"]:
    """Log density under the even mixture of `c` diagonal Gaussians.

    Tomczak and Welling 2018 (VampPrior, arXiv:1705.07120), eq. 9, where the Gaussians are the
    posteriors of learned pseudo-inputs.
    """
    each = log_gaussian(z[:, None], mu[None], logvar[None]).sum(-1)
    return jax.nn.logsumexp(each, axis=1) - math.log(len(mu))


def at_least(x: Float[Array, "*n"], floor: float) -> Float[Array, "*n"]:
    """max(x, floor) whose gradient is 1 at equality, as that of PyTorch's clamp is."""
    return jnp.where(x >= floor, x, floor)


def free_bits(
    kl: Float[Array, "b z"], weights: Float[Array, " b"], objective: Objective
) -> Float[Array, ""]:
    """Mean KL of the rows of weight 1, with its floor.

    Over the batch: sum over dimensions of max(floor, mean over rows) (Kingma et al. 2016,
    arXiv:1606.04934, eq. 15, each dimension a group). In each sample: mean over rows of the sum of
    max(floor, kl), the seed's form, in which a dimension above the floor on average still has
    rows without gradient.
    """
    floor = objective.free_bits
    if floor and objective.free_bits_over == "sample":
        kl = at_least(kl, floor)
    mean = across.total(jnp.einsum("b,bz->z", weights, kl))
    mean = mean / jnp.maximum(across.total(weights.sum()), 1)
    if floor and objective.free_bits_over == "batch":
        mean = at_least(mean, floor)
    return mean.sum()


def beta_schedule(step: Any, beta: float, warmup_steps: int) -> Any:
    """Weight of the KL, rising linearly from 0 at step 0; steps in NumPy give float64."""
    numeric = step.__array_namespace__()
    if warmup_steps <= 0:
        return numeric.full_like(step, beta, dtype=float)
    return beta * numeric.minimum(1.0, numeric.maximum(0, step) / warmup_steps)
