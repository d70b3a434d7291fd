"""Optimisers and schedules from the config, one group of parameters per path rule."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgraph.errors import UserError
from jaxgraph.train.config import Group, Schedule

Rules = Sequence[tuple[str, str]]
"""(regular expression searched in the path, label); the first match wins."""


class Optimizer(NamedTuple):
    """A gradient transformation and the learning rates it uses, by group, for the log."""

    transform: optax.GradientTransformation
    rates: dict[str, Callable[[jax.Array], jax.Array]]


def path_name(path: tuple) -> str:
    """Path of a leaf, as in `layer_0/experts/up/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def by_path(tree: Any, rules: Rules) -> Any:
    """The tree with each leaf replaced by the label of the first rule found in its path.

    Raises:
      UserError: some paths match no rule; they are listed.
    """
    uncovered = []

    def label(path, _):
        name = path_name(path)
        for pattern, value in rules:
            if re.search(pattern, name):
                return value
        uncovered.append(name)

    labels = jax.tree_util.tree_map_with_path(label, tree)
    if uncovered:
        patterns = [pattern for pattern, _ in rules]
        raise UserError(f"parameters that no rule of {patterns} covers: {', '.join(uncovered)}")
    return labels


def make_schedule(config: Schedule, lr: float, total_steps: int) -> optax.Schedule:
    """Learning rate as a function of the step count (0 for the first update)."""
    end = config.decay_steps or total_steps
    warmup = config.warmup_steps
    span = max(end - warmup, 1)

    def rate(count):
        count = jnp.asarray(count, float)  # float32, or float64 where that is enabled
        done = (count - warmup) / span
        if config.kind != "cosine_periodic":
            done = jnp.clip(done, 0, 1)
        if config.kind == "constant":
            factor = jnp.ones_like(done)
        elif config.kind == "linear":
            factor = 1 - (1 - config.final) * done
        elif config.kind == "step":
            factor = config.gamma ** jnp.floor(jnp.maximum(count - warmup, 0) / config.period)
        else:
            factor = config.final + (1 - config.final) * (1 + jnp.cos(math.pi * done)) / 2
        rise = jnp.minimum(1.0, (count + 1) / warmup) if warmup else 1.0
        return lr * jnp.where(count < warmup, rise, factor)

    return rate


def make_group(config: Group, rate: optax.Schedule) -> optax.GradientTransformation:
    """The optimiser of one group; equal to torch.optim's of the same name (spec/jax_api.md, d)."""
    decay = dict(weight_decay=config.weight_decay, mask=DECAYED[config.decay])
    make = {
        "adamw": lambda: optax.adamw(rate, config.b1, config.b2, config.eps, **decay),
        "adam": lambda: optax.adam(rate, config.b1, config.b2, config.eps),
        "sgd": lambda: optax.sgd(rate, momentum=config.b1),
        "lion": lambda: optax.lion(rate, config.b1, config.b2, **decay),
        "frozen": optax.set_to_zero,
    }[config.kind]()
    return optax.chain(_clip(config.clip), make)


def _clip(norm: float) -> optax.GradientTransformation:
    # Same layout with and without, so that a run may change its mind when it resumes.
    return optax.clip_by_global_norm(norm) if norm else optax.identity()


def weight_matrices(params: Any) -> Any:
    """True for leaves named `kernel`: weight matrices, stacked or not."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path_name(path).rsplit("/", 1)[-1] == "kernel", params
    )


DECAYED = {"matrices": weight_matrices, "all": None}


def make_optimizer(
    groups: Mapping[str, Group], rules: Rules, *, total_steps: int, clip: float = 0.0
) -> Optimizer:
    """Each group of parameters under its own optimiser, rate and schedule.

    Args:
      groups: optimiser of each label.
      rules: path rules that give every parameter a label.
      total_steps: where schedules end that name no end of their own.
      clip: largest norm of all trained groups' gradients together; 0 leaves them alone.

    Raises:
      UserError: from `init`, when a parameter matches no rule.
    """
    rates = {
        name: make_schedule(group.schedule, group.lr, total_steps)
        for name, group in groups.items()
    }
    parts = {name: make_group(group, rates[name]) for name, group in groups.items()}

    def is_frozen(params):
        return jax.tree.map(
            lambda label: groups[label].kind == "frozen", by_path(params, rules)
        )

    chain = optax.chain(
        # First, so that frozen gradients do not count in the norm.
        optax.masked(optax.set_to_zero(), is_frozen),
        _clip(clip),
        optax.partition(parts, lambda params: by_path(params, rules)),
    )
    trained = {name: rate for name, rate in rates.items() if groups[name].kind != "frozen"}
    return Optimizer(chain, trained)


def group_norms(params: Any, grads: Any, updates: Any, rules: Rules) -> dict[str, jax.Array]:
    """Norms of parameters, gradients and updates of each group: costly, for diagnostics."""
    labels = jax.tree.leaves(by_path(params, rules))
    norms = {}
    for kind, tree in (("param", params), ("grad", grads), ("update", updates)):
        leaves = jax.tree.leaves(tree)
        for label in sorted(set(labels)):
            group = [leaf for leaf, own in zip(leaves, labels, strict=True) if own == label]
            norms[f"diagnostics/{kind}_norm/{label}"] = optax.tree.norm(group)
    return norms
