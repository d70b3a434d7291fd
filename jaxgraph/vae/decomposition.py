"""What the KL is made of, and which latent dimensions are in use."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgraph.vae.bounds import log_prior
from jaxgraph.vae.divergence import log_gaussian

ACTIVE_VARIANCE = 0.01


class Decomposition(NamedTuple):
    """Parts of the mean KL from a standard normal, in nats; they sum to its estimate."""

    mutual_information: Any
    """Between a latent vector and the index of its row; at most the log of the rows."""
    total_correlation: Any
    """Of the latent dimensions with each other."""
    dimension_wise: Any
    """KL of each dimension's aggregate from its prior, summed."""

    @property
    def kl(self) -> Any:
        return sum(self)


def decompose_kl(
    z: Float[Array, "n z"],
    mu: Float[Array, "n z"],
    logvar: Float[Array, "n z"],
    *,
    block: int = 256,
) -> Decomposition:
    """Chen et al. 2018 (arXiv:1802.04942), eq. 2, over a whole evaluation set.

    The aggregate posterior is the even mixture of the posteriors of these n rows: exact for this
    set, where the paper's minibatch estimators are biased. Densities are averaged at one latent
    sample per row. Time grows with n squared; memory with n times `block`.
    """
    rows = len(z)
    block = min(block, rows)
    padded = jnp.pad(z, ((0, -rows % block), (0, 0))).reshape(-1, block, z.shape[1])

    def aggregate(part):
        each = log_gaussian(part[:, None], mu[None], logvar[None])
        joint = jax.nn.logsumexp(each.sum(-1), axis=1)
        return joint - math.log(rows), jax.nn.logsumexp(each, axis=1) - math.log(rows)

    joint, single = jax.lax.map(aggregate, padded)
    joint = joint.reshape(-1)[:rows]
    product = single.reshape(-1, z.shape[1])[:rows].sum(-1)
    own = log_gaussian(z, mu, logvar).sum(-1)
    return Decomposition(
        jnp.mean(own - joint), jnp.mean(joint - product), jnp.mean(product - log_prior(z))
    )


def active_units(mu: Float[Array, "n z"]) -> Bool[Array, " z"]:
    """Dimensions whose posterior mean varies over the data: variance above 0.01 (Burda et al. 2016,
    arXiv:1509.00519, section 5.1)."""
    return jnp.var(mu, axis=0) > ACTIVE_VARIANCE
