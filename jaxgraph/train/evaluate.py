"""Means over a whole split, padding left out."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import jax

from jaxgraph.errors import UserError
from jaxgraph.train.state import TrainState


def evaluate(
    eval_step: Callable[[TrainState, Any, Any], dict[str, jax.Array]],
    state: TrainState,
    frozen: Any,
    batches: Iterable[Any],
    limit: int = 0,
) -> dict[str, float]:
    """Weighted means of `eval_step`'s metrics over all batches (or the first `limit`).

    Batches weigh by their real items, so the partial last one counts for what it holds.

    Raises:
      UserError: there is nothing to evaluate.
    """
    # Results are pulled together at the end: no batch waits for the one before it.
    found = [eval_step(state, frozen, batch) for batch in itertools.islice(batches, limit or None)]
    found = jax.device_get(found)
    total = sum(float(part["weight"]) for part in found)
    if not total:
        raise UserError("the evaluation split holds no items; raise its share in task.data")
    return {
        name: sum(float(part[name]) * float(part["weight"]) for part in found) / total
        for name in found[0]
        if name != "weight"
    }
