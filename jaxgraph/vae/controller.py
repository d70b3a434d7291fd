"""Sets beta so that the KL meets a target."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from jaxgraph.vae.config import Controller


class ControllerState(struct.PyTreeNode):
    """What the controller remembers, in `state.extra`."""

    integral: Any
    """-K_i times the sum of the errors so far, float32 scalar."""
    beta: Any
    """Weight of the KL in the next step, float32 scalar."""


def init_controller(config: Controller) -> ControllerState:
    start = jnp.asarray(config.lowest, jnp.float32)
    return ControllerState(jnp.zeros((), jnp.float32), start)


def advance(
    state: ControllerState, kl: Float[Array, ""], config: Controller
) -> ControllerState:
    """The next beta after a step whose mean KL was `kl`.

    Nonlinear proportional-integral rule of ControlVAE (Shao et al. 2020, arXiv:2004.05988, eq. 6
    and algorithm 1), with the error e = target - kl:

        beta = lowest + K_p / (1 + exp(e)) - K_i sum(e),   within [lowest, highest]

    At a bound the sum is set back to what gives the bound, so that it never winds up (the paper
    lets it stand still there, and may then stop short of the bound).
    """
    error = config.target - kl
    proportional = config.proportional * jax.nn.sigmoid(-error)
    wanted = config.lowest + proportional + state.integral - config.integral * error
    beta = jnp.clip(wanted, config.lowest, config.highest)
    return ControllerState(beta - config.lowest - proportional, beta)
