"""Balancing of the outputs' activations: the original's archived experiment, which its head never
calls (spec/neurograph.md, section 21).

After a forward pass in training, outputs that were active often enough in this epoch are silenced,
and one that was active too rarely may be forced: a message of random indices arrives at it. The
original's epoch is one of our batches.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxgraph.neurograph.config.faithful import Balance
from jaxgraph.neurograph.faithful.activation import Activation, inject
from jaxgraph.neurograph.faithful.cell import CellOut
from jaxgraph.neurograph.tables import Tables

STRENGTH = 0.8
"""Of a forced message."""


def balance(
    options: Balance,
    tables: Tables,
    state: Activation,
    outputs: Int[np.ndarray, " o"],
    counts: Int[Array, " o"],
    key: Any,
) -> Activation:
    """The state after a pass, with some outputs silenced and at most one of them forced.

    Args:
      counts: samples of this epoch in which each output was active.
      key: draws who is forced, and with which indices.
    """
    often = counts >= options.max_activations
    silent = jnp.zeros(state.mask.shape, bool).at[outputs].set(often)
    state = state._replace(
        mask=state.mask & ~silent, strength=jnp.where(silent, 0.0, state.strength)
    )
    pick_key, phase_key, mag_key = jax.random.split(key, 3)
    here = jnp.zeros(state.mask.shape, bool).at[outputs].set(choose(options, counts, pick_key))
    shape = state.phase.shape
    message = CellOut(
        jax.random.randint(phase_key, shape, 0, tables.phase_bins),
        jax.random.randint(mag_key, shape, 0, tables.mag_bins),
        None,
        jnp.full(shape[0], STRENGTH),
    )
    return inject(state, message, here, tables)


def choose(
    options: Balance, counts: Int[Array, " o"], key: Any
) -> Bool[Array, " o"]:
    """Which output is forced, if any.

    - `quota`: with the option's probability, one of those active too rarely.
    - `round_robin`: one of the least active.
    - `weighted`: any, with chances as 1 / (1 + activations).
    """
    which_key, whether_key = jax.random.split(key)
    chances = {
        "quota": lambda: (counts < options.min_activations).astype(jnp.float32),
        "round_robin": lambda: (counts == counts.min()).astype(jnp.float32),
        "weighted": lambda: 1 / (1 + counts.astype(jnp.float32)),
    }[options.strategy]()
    forced = jnp.any(chances > 0)
    if options.strategy == "quota":
        forced &= jax.random.bernoulli(whether_key, options.force_probability)
    which = jax.random.categorical(which_key, jnp.log(chances))
    return forced & (jnp.arange(len(counts)) == which)
