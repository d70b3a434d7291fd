"""Ghost experts: when the primaries saturate, sleeping experts wake and ramp up.

The state is an explicit pytree of arrays (in the seed it hides in Python objects, changes in
evaluation and is lost on reload; docs/parity.md, D4). Levels are traced numbers, so waking never
recompiles.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.moe.config import Ghosts, Model
from jaxgraph.moe.orthogonality import distance_to_identity, pairwise_cosine
from jaxgraph.nn import across

DORMANT, ACTIVATING, ACTIVE = 0, 1, 2


class GhostState(struct.PyTreeNode):
    """Ghosts of all layers; fields are `Any` because JAX rebuilds pytrees around non-arrays."""

    levels: Any
    """[l, g] float32: factor of each ghost, 0 (asleep) to 1."""
    phase: Any
    """[l, g] int32: 0 dormant, 1 activating, 2 active; never goes back."""
    window: Any
    """[l, w] float32: latest saturations, as a ring."""
    filled: Any
    """[l] int32: saturations seen since the start or since the last ghost woke."""
    armed: Any
    """[l] bool: the next step compares the sleeping ghosts, and the best wakes (`selective`)."""


class Statistics(NamedTuple):
    """Token means of one layer from which saturation is computed; they average exactly over
    micro-batches and devices."""

    orthogonality: Float[Array, ""]
    unexplained: Float[Array, ""]


class Moments(NamedTuple):
    """Token means of one layer for the seed's statistic."""

    outputs: Float[Array, "p d"]
    residual: Float[Array, ""]
    squared: Float[Array, ""]
    elements: Float[Array, ""]


def init_ghosts(config: Model) -> GhostState:
    """All ghosts of all layers asleep."""
    layers, ghosts = config.num_layers, config.ghosts
    return GhostState(
        levels=jnp.zeros((layers, ghosts.count)),
        phase=jnp.zeros((layers, ghosts.count), jnp.int32),
        window=jnp.zeros((layers, ghosts.window)),
        filled=jnp.zeros(layers, jnp.int32),
        armed=jnp.zeros(layers, bool),
    )


def unexplained_share(
    updates: Float[Array, "p b t d"], target: Float[Array, "b t d"]
) -> Float[Array, "b t"]:
    """Share of |target|² outside the span of the experts' updates, per token: 0 to 1."""
    updates, target = updates.astype(jnp.float32), target.astype(jnp.float32)
    along, weights = _project(updates, target)
    explained = jnp.sum(along * weights, -1)
    return jnp.clip(1 - explained / jnp.maximum(jnp.sum(jnp.square(target), -1), 1e-12), 0, 1)


def residual(
    updates: Float[Array, "p b t d"], target: Float[Array, "b t d"]
) -> Float[Array, "b t d"]:
    """The part of `target` outside the span of the experts' updates."""
    updates, target = updates.astype(jnp.float32), target.astype(jnp.float32)
    _, weights = _project(updates, target)
    return target - jnp.einsum("btp,pbtd->btd", weights, updates)


def _project(
    updates: Float[Array, "p b t d"], target: Float[Array, "b t d"]
) -> tuple[Float[Array, "b t p"], Float[Array, "b t p"]]:
    """Products of updates and target, and the weights of the updates nearest to the target."""
    gram = jnp.einsum("pbtd,qbtd->btpq", updates, updates)
    # A ridge relative to the updates' size: parallel updates span less, they do not fail.
    ridge = 1e-5 * jnp.trace(gram, axis1=-2, axis2=-1)[..., None, None] + 1e-12
    gram = gram + ridge * jnp.eye(gram.shape[-1])[None, None]
    along = jnp.einsum("pbtd,btd->btp", updates, target)
    return along, jnp.linalg.solve(gram, along[..., None])[..., 0]


def measure(
    updates: Float[Array, "p b t d"], target: Float[Array, "b t d"], mask: Float[Array, "b t"]
) -> Statistics:
    """Saturation statistics of one layer, over the tokens that `mask` counts.

    `target` is the direction in which the layer should move each token (in the language model: the
    head's row of the true next token, less the mean row).
    """
    count = jnp.maximum(mask.sum(), 1)
    return Statistics(
        orthogonality=1 - jnp.sum(mask * pairwise_cosine(updates)) / count,
        unexplained=jnp.sum(mask * unexplained_share(updates, target)) / count,
    )


def measure_original(
    outputs: Float[Array, "p b t d"], x: Float[Array, "b t d"]
) -> Moments:
    """Moments of the seed's statistic: padding counts, as it does there (spec 3.4)."""
    residual = x - outputs.mean(0)
    means = outputs.mean((1, 2)), residual.mean(), jnp.square(residual).mean()
    elements = residual.size * across.devices()
    return Moments(*across.mean(means), jnp.asarray(elements, jnp.float32))


def original_scores(moments: Moments) -> Statistics:
    """Orthogonality score and unexplained variance as the seed defines them (spec 3.4)."""
    mean = moments.outputs
    unit = mean / jnp.maximum(jnp.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
    gram = unit @ unit.T
    variance = moments.squared - jnp.square(moments.residual)
    return Statistics(
        orthogonality=1 - distance_to_identity(gram),
        unexplained=variance * moments.elements / (moments.elements - 1),
    )


def saturation(statistics: Statistics) -> Float[Array, "..."]:
    """Orthogonality times the unexplained part: experts differ and still do not suffice."""
    return statistics.orthogonality * statistics.unexplained


def wake(
    levels: Float[Array, " g"],
    phase: Int[Array, " g"],
    trigger: Bool[Array, ""],
    config: Ghosts,
    scores: Float[Array, " g"] | None = None,
) -> tuple[Float[Array, " g"], Int[Array, " g"]]:
    """One step of one layer's controller: ramps waking ghosts, wakes another one on a trigger.

    That is the first sleeping one, or the one of the largest score, the first of equals. With
    timing `forward` (the seed), a step that wakes a ghost moves nobody else.
    """
    step = jnp.float32(1.0 if config.schedule == "binary" else 1 / config.ramp_steps)
    dormant = phase == DORMANT
    trigger = trigger & dormant.any()
    rank = dormant if scores is None else jnp.where(dormant, scores, -jnp.inf)
    chosen = trigger & (jnp.arange(len(phase)) == jnp.argmax(rank))
    moving = phase == ACTIVATING
    if config.timing == "forward":
        moving = moving & ~trigger
    levels = jnp.where(moving, jnp.minimum(1.0, levels + step), levels)
    levels = jnp.where(chosen, step, levels)
    phase = jnp.where(chosen, ACTIVATING, phase)
    return levels, jnp.where((phase == ACTIVATING) & (levels >= 1), ACTIVE, phase)


def advance(
    state: GhostState,
    saturations: Float[Array, " l"],
    config: Ghosts,
    scores: Float[Array, "l g"] | None = None,
) -> GhostState:
    """One optimiser step of all layers' controllers.

    A layer's next ghost wakes when the mean saturation over a full window is above the threshold;
    the window then starts anew, so that the ghost can act before the next one follows. With timing
    `forward` there is no window: the single value decides, as in the seed.

    Args:
      scores: with schedule `selective`, what speaks for each ghost (`rehearsal.Rehearsal`). It is
        read in layers that the step before has armed: a full window arms, the step after wakes.
    """
    if config.timing == "forward":
        levels, phase = jax.vmap(lambda *layer: wake(*layer, config))(
            state.levels, state.phase, saturations > config.threshold
        )
        return state.replace(levels=levels, phase=phase)
    slot = jnp.arange(config.window)[None, :] == (state.filled % config.window)[:, None]
    window = jnp.where(slot, saturations[:, None], state.window)
    filled = state.filled + 1
    trigger = (filled >= config.window) & (window.mean(1) > config.threshold)
    trigger = trigger & (state.phase == DORMANT).any(1)
    woken, armed = trigger, state.armed
    if config.schedule == "selective":
        woken, armed = armed, trigger & ~armed
    levels, phase = jax.vmap(lambda *layer: wake(*layer[:3], config, *layer[3:]))(
        state.levels, state.phase, woken, *(() if scores is None else (scores,))
    )
    return GhostState(levels, phase, window, jnp.where(woken, 0, filled), armed)
