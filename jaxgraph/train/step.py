"""One pure training step out of a loss and an optimiser."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgraph.nn import across
from jaxgraph.train.optim import Optimizer
from jaxgraph.train.state import TrainState
from jaxgraph.train.task import Batch, Metrics


class LossOutput(NamedTuple):
    """What a loss function returns; everything is a mean over the batch's real items."""

    loss: jax.Array
    """Scalar to minimise."""
    weight: jax.Array
    """Number of real items (for a language model: targets that are not padding)."""
    metrics: Metrics
    """Scalars to log."""
    stats: Any = ()
    """Arrays from which `update_extra` computes the next `extra`."""


LossFn = Callable[[Any, Any, Any, Batch, Any, jax.Array], LossOutput]
"""`loss(params, frozen, extra, batch, key, step)`. Devices over which a batch is mapped get the
same key: what is drawn by row is drawn through `across.draw`."""


def make_train_step(
    loss_fn: LossFn,
    optimizer: Optimizer,
    *,
    accumulate: int = 1,
    update_extra: Callable[[Any, Any], Any] | None = None,
    scale_updates: Callable[[Any, Any, jax.Array], tuple[Any, Metrics]] | None = None,
    diagnostics: Callable[[Any, Any, Any], Metrics] | None = None,
    diagnostics_every: int = 1,
) -> Callable[[TrainState, Any, Batch], tuple[TrainState, Metrics]]:
    """Returns `step(state, frozen, batch) -> (state, metrics)`: pure and not yet jitted.

    A batch is cut into `accumulate` micro-batches that are weighted by their real items, so the
    step equals that of the whole batch even when padding is spread unevenly. A step whose loss or
    gradient is not finite changes nothing but the step count, and says so in `skipped`.

    It runs under `jit`, on arrays sharded in any way, and mapped over an axis named `data` by
    `pmap` or `shard_map`: the same numbers, if the loss observes what `jaxgraph.nn.across` says.

    Args:
      loss_fn: see `LossFn`.
      optimizer: from `train.optim.make_optimizer`.
      accumulate: micro-batches; must divide the batch.
      update_extra: `(extra, stats) -> extra`, called once per step.
      scale_updates: `(updates, extra, step) -> (updates, metrics)`, for rates that follow from
        `extra`: updates are linear in the rate. Its metrics override those of the same name.
      diagnostics: `(params, grads, updates) -> metrics`, costly ones; computed every
        `diagnostics_every` steps, and NaN in between.
    """
    def weighted_loss(params, frozen, extra, batch, key, step):
        out = loss_fn(params, frozen, extra, batch, key, step)
        weight = jax.lax.stop_gradient(out.weight)
        rest = jax.tree.map(lambda x: x * weight, (out.loss, out.metrics, out.stats))
        # The mean over devices stands inside the differentiated function and again on the
        # gradients: the only body that is right under pmap, shard_map and jit alike.
        return across.mean(out.loss * weight), across.mean((weight, jax.lax.stop_gradient(rest)))

    def gradients(state, frozen, batch, key):
        def one(i, micro):
            return jax.grad(weighted_loss, has_aux=True)(
                state.params, frozen, state.extra, micro, jax.random.fold_in(key, i), state.step
            )

        if accumulate == 1:
            grads, (weight, rest) = one(0, batch)
        else:
            micros = jax.tree.map(lambda x: _split(x, accumulate), batch)
            start = jax.tree.map(
                lambda s: jnp.zeros(s.shape, s.dtype),
                jax.eval_shape(one, 0, jax.tree.map(lambda x: x[0], micros)),
            )

            def add(total, part):
                return jax.tree.map(jnp.add, total, one(*part)), None

            (grads, (weight, rest)), _ = jax.lax.scan(add, start, (jnp.arange(accumulate), micros))
        grads = across.mean(grads)
        weight = jnp.maximum(weight, 1e-9)
        grads, rest = jax.tree.map(lambda x: x / weight.astype(x.dtype), (grads, rest))
        return grads, rest, weight * across.devices()

    def step(state: TrainState, frozen: Any, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        grads, (loss, metrics, stats), items = gradients(state, frozen, batch, key)
        updates, opt_state = optimizer.transform.update(grads, state.opt_state, state.params)
        rates = {f"lr/{name}": rate(state.step) for name, rate in optimizer.rates.items()}
        if scale_updates:
            updates, scaled = scale_updates(updates, state.extra, state.step)
            rates |= scaled
        extra = update_extra(state.extra, stats) if update_extra else state.extra
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        new = state.replace(
            params=optax.apply_updates(state.params, updates), opt_state=opt_state, extra=extra
        )
        new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
        new = new.replace(step=state.step + 1)
        metrics = metrics | {"loss": loss, "grad_norm": norm, "items": items} | rates
        metrics["skipped"] = 1.0 - finite
        if diagnostics:
            args = (state.params, grads, updates)
            shapes = jax.eval_shape(diagnostics, *args)
            metrics |= jax.lax.cond(
                (state.step + 1) % diagnostics_every == 0,
                diagnostics,
                lambda *_: jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), shapes),
                *args,
            )
        return new, metrics

    return step


def scan_steps(step: Callable, length: int) -> Callable:
    """`step` over `length` stacked batches in one call; metrics come back stacked."""

    def steps(state: TrainState, frozen: Any, batches: Batch) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda s, b: step(s, frozen, b), state, batches, length=length)

    return steps


def _split(x: jax.Array, parts: int) -> jax.Array:
    """[b, ...] -> [parts, b / parts, ...], each part taking every parts-th row: rows then stay on
    the device that has them."""
    if x.shape[0] % parts:
        raise ValueError(f"batch of {x.shape[0]} rows is not a multiple of accumulate {parts}")
    return jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)
