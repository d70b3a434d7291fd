"""How far classes lie apart in the latent space (spec/vae.md, sections 9 and 10)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgraph.nn import across
from jaxgraph.vae.config import Separability

NUMBER_CLASSES = (0, 1, 2, 1, 0, 2)
"""Class of each label of a number: easy composite, prime, hard composite; then the labels of the
noised copies, which the seed orders prime, easy, hard."""


class Score(NamedTuple):
    """Separability of a batch."""

    fisher: Any
    """Scatter between classes over scatter within, a scalar; 0 where it is gated off."""
    adjusted: Any
    """The same over its mean for latents that do not depend on the class: about 1 by chance."""


def map_labels(
    labels: Int[Array, " b"], class_of: tuple[int, ...] = NUMBER_CLASSES
) -> Int[Array, " b"]:
    """The class of each label by lookup; what is no known label stays as it is."""
    known = (labels >= 0) & (labels < len(class_of))
    table = jnp.asarray(class_of, labels.dtype)
    return jnp.where(known, table[jnp.where(known, labels, 0)], labels)


def compact_labels(labels: Int[Array, " b"]) -> Int[Array, " b"]:
    """The seed's numbering: each label's rank among those in the batch, so it changes with it.

    Fisher's ratio does not care. Kept for parity.
    """
    ordered = jnp.sort(labels)
    first = jnp.concatenate([jnp.ones_like(ordered[:1], bool), ordered[1:] != ordered[:-1]])
    return (jnp.cumsum(first) - 1)[jnp.searchsorted(ordered, labels)].astype(labels.dtype)


def fisher_ratio(
    z: Float[Array, "b z"],
    labels: Int[Array, " b"],
    *,
    classes: int,
    options: Separability,
    mask: Float[Array, " b"] | None = None,
    absent: str = "skip",
) -> Score:
    """J = S_between / (S_within + eps) of the rows of mask 1, differentiable in z.

    Class sums are matrix products with one-hot labels, so shapes are static. S_within takes each
    row's distance from its own class mean (two passes): sums of squares would cancel. Labels
    outside 0 .. classes - 1 belong to no class, but count in the mean of all.

    Under latents that ignore the class, J (b - k) / (k - 1) with k classes present is F-distributed
    with mean near 1, for Gaussian latents exactly so; `adjusted` is that.

    Args:
      absent: what a class without rows below the largest label does: `skip` it, or `gate` the
        score to 0, as the seed does where labels were not numbered anew.
    """
    mask = jnp.ones(len(z), z.dtype) if mask is None else mask
    member = jax.nn.one_hot(labels, classes, dtype=z.dtype) * mask[:, None]
    counts = across.total(member.sum(0))
    rows = jnp.maximum(across.total(mask.sum()), 1)
    means = across.total(member.T @ z) / jnp.maximum(counts, 1)[:, None]
    overall = across.total(mask @ z) / rows
    apart = member.sum(1, keepdims=True) * jnp.square(z - member @ means)
    within = across.total(jnp.sum(apart)) / rows
    between = counts @ jnp.square(means - overall[None]).sum(1) / rows

    present = counts > 0
    number = present.sum()
    asked = present
    if absent == "gate":
        asked = jnp.arange(classes) <= jnp.max(jnp.where(present, jnp.arange(classes), 0))
    enough = jnp.where(asked, counts, jnp.inf).min() >= options.min_per_class
    if absent == "gate":
        enough &= jnp.all(present | ~asked)
    open_ = enough & (number > 1)
    # Both are made harmless before the division: a gated score has gradient 0, not NaN.
    between = jnp.where(open_, between, 0.0)
    within = jnp.where(open_, within, 1.0)
    fisher = between / (within + options.eps)
    freedom = jnp.maximum(rows - number, 1) / jnp.maximum(number - 1, 1)
    return Score(fisher, fisher * freedom)


def weight_schedule(
    step: Any, weight: float, warmup_steps: int, ramp_steps: int
) -> Any:
    """Factor of the score: 0 up to and with the last warm-up step, then rising linearly; steps in
    NumPy give float64."""
    numeric = step.__array_namespace__()
    if weight <= 0:
        return numeric.zeros_like(step, dtype=float)
    return weight * numeric.clip((step - warmup_steps) / max(1, ramp_steps), 0.0, 1.0)
