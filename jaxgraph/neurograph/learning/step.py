"""One training step of integer parameters, and one evaluation step."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt8

from jaxgraph.neurograph.config.learning import Learning
from jaxgraph.neurograph.learning.credit import cross_entropy, logits_of, make_loss
from jaxgraph.neurograph.learning.diagnostics import measure
from jaxgraph.neurograph.learning.network import Network
from jaxgraph.neurograph.learning.updates import (
    Rates,
    move,
    round_steps,
    steps_in_bins,
    update_moments,
)
from jaxgraph.nn import across

Batch = dict[str, Array]
Metrics = dict[str, Array]


def make_gradient(network: Network, config: Learning) -> Callable:
    """``gradient(params, batch, rates) -> (gradients per bin, metrics, pass)``.

    Means over the batch's real rows.
    """
    losses_of = make_loss(network, config.loss)

    def gradient(params: Any, batch: Batch, rates: Rates):
        rows = jnp.maximum(across.total(batch["mask"].sum()), 1)
        offsets = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params)

        def loss(offsets):
            losses, found = losses_of(
                offsets, params, batch["image"], batch["label"], rates.temperature, rates.smoothing
            )
            return jnp.sum(losses * batch["mask"]) / rows, found

        (value, found), grads = jax.value_and_grad(loss, has_aux=True)(offsets)
        right = (found.scores.argmax(1) == batch["label"]) * batch["mask"]
        metrics = {"loss": value, "accuracy": right.sum() / rows}
        grads, metrics = across.total((grads, metrics))
        return grads, metrics | {"items": rows}, found

    return gradient


def make_learn(
    network: Network,
    config: Learning,
    schedule: Callable[[Any], Any],
    *,
    diagnostics_every: int,
) -> Callable:
    """``learn(state, batch, rates) -> (state, metrics)``: one step, pure and not yet jitted.

    Indices stay integers: their moments, in `opt_state`, are the only floats that are kept.

    Args:
      schedule: factor of the rate by the step's number.
      diagnostics_every: steps between `diagnostics/...`, which are NaN otherwise; 0 for none.
    """
    gradient = make_gradient(network, config)
    options, tables = config.optim, network.tables

    def learn(state: Any, batch: Batch, rates: Rates) -> tuple[Any, Metrics]:
        move_key, round_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        if config.loss.shift:
            batch = batch | {"image": shift_images(batch["image"], config.loss.shift, move_key)}
        grads, metrics, found = gradient(state.params, batch, rates)
        moments = update_moments(state.opt_state, grads, rates)
        lr = rates.lr * schedule(state.step)
        count = (state.step + 1).astype(jnp.float32)
        wanted = steps_in_bins(moments, rates, lr, count, tables, options.eps)
        steps = round_steps(wanted, options.rounding, round_key)
        new = state.replace(
            step=state.step + 1, params=move(state.params, steps, tables), opt_state=moments
        )
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
        kept = state.replace(step=state.step + 1)
        new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, kept)
        metrics |= {"grad_norm": norm, "lr": lr, "skipped": 1.0 - finite}
        if diagnostics_every:
            args = (network, state.params, grads, wanted, steps, found, batch["mask"])
            metrics |= _now_and_then(
                (state.step + 1) % diagnostics_every == 0, lambda: measure(*args)
            )
        return new, metrics

    return learn


def make_eval(network: Network) -> Callable:
    """``evaluate(state, batch, temperature) -> metrics``: means over the real rows."""

    def evaluate(state: Any, batch: Batch, temperature: float) -> Metrics:
        scores = make_predict(network)(state.params, batch["image"])
        losses = cross_entropy(logits_of(network, scores) / temperature, batch["label"], 0.0)
        mask, right = batch["mask"], scores.argmax(1) == batch["label"]
        rows = jnp.maximum(mask.sum(), 1)
        return {
            "loss": jnp.sum(losses * mask) / rows,
            "accuracy": jnp.sum(right * mask) / rows,
            "weight": mask.sum(),
        }

    return evaluate


def make_predict(network: Network) -> Callable:
    """``predict(params, images) -> scores [b, k]``, whole numbers."""

    def predict(params: Any, images: UInt8[Array, "b h w"]) -> Array:
        offsets = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params)
        return network.run(network.values(params, offsets), images).scores

    return predict


def shift_images(
    images: UInt8[Array, "b h w"], most: int, key: Any
) -> UInt8[Array, "b h w"]:
    """Images moved by up to `most` pixels each way; the background fills up."""
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most)))
    draw = partial(jax.random.randint, minval=0, maxval=2 * most + 1)
    corners: Int[Array, "b 2"] = across.draw(draw, key, (len(images), 2))
    size = images.shape[1:]
    return jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, at, size))(padded, corners)


def _now_and_then(due: Any, compute: Callable[[], Metrics]) -> Metrics:
    shapes = jax.eval_shape(compute)
    nothing = lambda: jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), shapes)  # noqa: E731
    return jax.lax.cond(due, compute, nothing)
