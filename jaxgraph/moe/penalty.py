"""The orthogonality losses of a step, with their factors, and what is logged of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgraph.moe import orthogonality, strength
from jaxgraph.moe.config import Model
from jaxgraph.moe.strength import Strength
from jaxgraph.nn import across

Metrics = dict[str, Any]


class Penalty(NamedTuple):
    """What the losses add to a step."""

    loss: Any
    metrics: Metrics
    specialization: Float[Array, " l"]
    """Score of each layer's weights if the controller needs it in this step, else zeros."""


def applies(config: Model) -> bool:
    """Whether the mode has orthogonality losses."""
    return config.mode in ("orthogonal", "ghost")


def penalty(
    params: Any,
    features: Sequence[Float[Array, "p b t d"]],
    mask: Float[Array, "b t"],
    step: Any,
    state: Strength | None,
    config: Model,
) -> Penalty:
    """warm-up · (weight · Σ_i outputs_i + Σ_i strength_i · weights_i) over the layers i.

    Args:
      params: the model's.
      features: what `measure` compares, of each layer's primary experts.
      mask: which tokens count.
      step: optimiser steps so far.
      state: the controller's; None for a constant strength.
    """
    options, loss, metrics = config.orthogonality, 0.0, {}
    scores = jnp.zeros(config.num_layers)
    if not applies(config):
        return Penalty(loss, metrics, scores)
    warmup = orthogonality.warmup(step, options.warmup_steps)
    if options.weight:
        total = sum(
            orthogonality.output_loss(x, mask, options.form, options.over) for x in features
        )
        loss = metrics["loss/orthogonality"] = options.weight * warmup * total
        metrics["orthogonality/outputs"] = total / config.num_layers
        if options.form == "cosine":
            metrics["orthogonality/outputs_chance"] = orthogonality.output_chance(
                config.width, across.total(mask.sum()), options.over
            )
    if not options.weight_strength:
        return Penalty(loss, metrics, scores)

    rows = layer_rows(params, config)
    strengths = jnp.full(config.num_layers, options.weight_strength)
    if state is not None:
        strengths = state.values
        metrics |= {f"orthogonality/strength/layer_{i}": s for i, s in enumerate(strengths)}
        scores = jax.lax.cond(
            strength.is_due(state, options.adaptive),
            lambda rows: jnp.stack([orthogonality.specialization(r) for r in rows]),
            lambda _: jnp.zeros(config.num_layers),
            jax.lax.stop_gradient(rows),
        )
    each = jnp.stack([orthogonality.weight_loss(r, options.weight_form) for r in rows])
    weights = metrics["loss/weight_orthogonality"] = warmup * jnp.sum(strengths * each)
    return Penalty(loss + weights, metrics, scores)


def layer_rows(params: Any, config: Model) -> list[Float[Array, "r k"]]:
    """The compared matrices of each layer's primary experts, flat."""
    target = config.orthogonality.weight_target
    return [
        orthogonality.weight_rows(params[f"layer_{i}"]["experts"], target)
        for i in range(config.num_layers)
    ]


def specialization_metrics(params: Any, config: Model) -> Metrics:
    """Specialization of each layer's weights beside what random weights reach: for diagnostics."""
    if not applies(config) or config.num_experts < 2:
        return {}
    name = "diagnostics/orthogonality/specialization"
    rows = layer_rows(params, config)
    scores = {f"{name}/layer_{i}": orthogonality.specialization(r) for i, r in enumerate(rows)}
    chance = orthogonality.chance_level(
        params["layer_0"]["experts"], config.orthogonality.weight_target
    )
    return scores | {f"{name}_chance": jnp.float32(chance)}
