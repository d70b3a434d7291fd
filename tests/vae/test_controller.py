"""The controller of beta: it meets its target, keeps its bounds, and does not wind up."""

import jax
import jax.numpy as jnp
import pytest

from jaxgraph.vae.config import Controller
from jaxgraph.vae.controller import advance, init_controller

CONFIG = Controller(target=5.0, integral=1e-3)


def follow(config, kl_of_beta, steps=4000):
    def step(state, _):
        kl = kl_of_beta(state.beta)
        state = advance(state, kl, config)
        return state, (state.beta, kl)

    _, (beta, kl) = jax.lax.scan(step, init_controller(config), length=steps)
    return beta, kl


def test_the_kl_meets_the_target():
    # A model that spends less the dearer the KL is: target 5 at beta 0.4.
    beta, kl = follow(CONFIG, lambda beta: 2 / (beta + 1e-3))
    assert float(kl[-1]) == pytest.approx(5, abs=0.05)
    assert float(beta[-1]) == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("kl, bound", [(100.0, 0.8), (0.0, 0.1)])
def test_beta_keeps_its_bounds_and_leaves_them_at_once(kl, bound):
    config = Controller(target=5.0, integral=1e-3, lowest=0.1, highest=0.8)
    beta, _ = follow(config, lambda beta: jnp.asarray(kl))
    assert 0.1 <= float(beta.min()) and float(beta.max()) <= 0.8 + 1e-6
    assert float(beta[-1]) == pytest.approx(bound, abs=0.011)
    # After thousands of steps at the bound, a few errors the other way move it.
    state = init_controller(config)
    for _ in range(3000):
        state = jax.jit(advance, static_argnums=2)(state, jnp.asarray(kl), config)
    for _ in range(40):
        state = jax.jit(advance, static_argnums=2)(state, jnp.asarray(10.0 - kl / 10), config)
    assert abs(float(state.beta) - bound) > 0.02
