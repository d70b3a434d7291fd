"""Learning-rate coupling: ghosts learn as the primaries slow down (spec/moe.md, 4.4 and 8)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxgraph.moe.config import Ghosts

Metrics = dict[str, Any]


def rate_factors(
    levels: Float[Array, "l g"], share: Float[Array, ""], step: Int[Array, ""], config: Ghosts
) -> Float[Array, "l g"]:
    """What multiplies each ghost's learning rate.

    Args:
      levels: in use before the step.
      share: the primaries' rate over their peak rate.
    """
    slowed = 1 - share
    if config.lr_coupling == "complementary":
        slowed = slowed / 2 + 0.1
    if config.lr_coupling_scope == "original":
        return jnp.where(step == 0, 1.0, jnp.broadcast_to(slowed * levels[0, 0], levels.shape))
    return slowed * levels


def make_handover(
    config: Ghosts, share: optax.Schedule, rate: optax.Schedule | None
) -> Callable[[Any, Any, Any], tuple[Any, Metrics]] | None:
    """`scale_updates` of `make_train_step`; None where rates are not coupled.

    What a step adds is linear in the rate, decoupled weight decay included, so a ghost whose factor
    is 0 stands still. The optimiser's moments do not depend on the factor.

    Args:
      share: the primaries' schedule, 1 at its peak.
      rate: the ghosts' own rate; None if they are frozen.
    """
    if not config.count or config.lr_coupling == "none" or rate is None:
        return None

    def scale(updates: Any, extra: Any, step: Any) -> tuple[Any, Metrics]:
        factors = rate_factors(extra["ghosts"].levels, share(step), step, config)
        scaled = dict(updates)
        for i, each in enumerate(factors):
            layer = updates[f"layer_{i}"]
            ghosts = jax.tree.map(
                lambda u, each=each: u * each.reshape(-1, *[1] * (u.ndim - 1)), layer["ghosts"]
            )
            scaled[f"layer_{i}"] = {**layer, "ghosts": ghosts}
        rates = rate(step) * factors
        # The mean over the ghosts that learn: their factors are above 0 together.
        mean = lambda x: x.sum() / jnp.maximum((x > 0).sum(), 1)  # noqa: E731
        metrics = {f"ghosts/lr/layer_{i}": mean(each) for i, each in enumerate(rates)}
        return scaled, metrics | {"lr/ghost": mean(rates)}

    return scale
