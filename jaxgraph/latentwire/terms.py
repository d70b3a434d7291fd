"""Terms of the loss that are no slices of the answers' logits: what pulls soft prompts towards
embeddings, and what guesses embeddings from the wire (spec/latentwire.md, section 6)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxgraph.latentwire.alignment import align, alignment_mse, manifold
from jaxgraph.latentwire.config import Losses
from jaxgraph.latentwire.heads import GistHead
from jaxgraph.latentwire.hearer import Frozen, Hearer
from jaxgraph.nn import across

Terms = dict[str, tuple[Any, Any]]
"""Weights and values."""


def prompt_terms(
    losses: Losses, hearer: Hearer, frozen: Frozen, own: Any, is_text: Any, prompt: Any, raw: Any,
    rows: Any,
) -> Terms:  # fmt: skip
    """What depends on a model's soft prompt alone; `raw` is the one before calibration."""
    terms: Terms = {}
    if losses.manifold:
        terms["manifold"] = losses.manifold, manifold(prompt, frozen.mean, frozen.deviation)
    if losses.curriculum.warmup and losses.warmup_align:
        begin = int(hearer.begins_with_bos)
        end = begin + losses.warmup_align_tokens
        value = spelt("mse", hearer, frozen, own, prompt, rows, begin, end)
        terms["align"] = 1.0, losses.warmup_align * value * is_text
    if losses.first_align:
        goal = hearer.embed(frozen, own["first"][:, None])
        value = align(losses.first_align_metric, prompt[:, :1], goal, rows[:, None])
        terms["latent_align"] = 1.0, losses.first_align * value
    if losses.answer_align:
        value = spelt(losses.answer_align_metric, hearer, frozen, own, prompt, rows)
        terms["latent_prefix_align"] = 1.0, losses.answer_align * value
    if losses.raw_rms:
        strength = jnp.sqrt(across.mean(jnp.mean(jnp.square(raw))))
        terms["raw_rms"] = losses.raw_rms, jnp.square(strength - frozen.rms)
    return terms


def spelt(
    metric: str, hearer: Hearer, frozen: Frozen, own: Any, prompt: Float[Array, "b m e"],
    rows: Bool[Array, " b"], begin: int = 0, end: int | None = None,
) -> Float[Array, ""]:  # fmt: skip
    """Distance of the first slots from the embeddings of an answer's tokens, one by one."""
    goal = hearer.embed(frozen, own["answer"][:, begin:end])
    real = own["answer_mask"][:, begin:end] & rows[:, None]
    slots = min(prompt.shape[1], goal.shape[1])
    return align(metric, prompt[:, :slots], goal[:, :slots], real[:, :slots])


def gist(
    head: GistHead, params: Any, hearer: Hearer, frozen: Frozen, own: Any,
    z: Float[Array, "b m d"], rows: Bool[Array, " b"], dropped: float, key: Key[Array, ""],
) -> Float[Array, ""]:  # fmt: skip
    """Mean squared error of the guessed embeddings of a text's first tokens, of which the share
    `dropped` is left out at random."""
    ids, real = opening(own["text"], own["text_mask"], head.targets)
    draw = lambda key, shape: jax.random.uniform(key, shape) >= dropped  # noqa: E731
    valid = real & rows[:, None] & across.draw(draw, key, real.shape)
    guess = head.apply({"params": params}, z)
    return alignment_mse(guess, hearer.embed(frozen, ids).astype(guess.dtype), valid)


def opening(
    ids: Int[Array, "b s"], mask: Bool[Array, "b s"], count: int
) -> tuple[Int[Array, "b t"], Bool[Array, "b t"]]:
    """The first real tokens of rows that are padded on the left, and which there are."""
    place = (ids.shape[1] - mask.sum(1))[:, None] + jnp.arange(count)[None]
    inside = jnp.minimum(place, ids.shape[1] - 1)
    return jnp.take_along_axis(ids, inside, axis=1), place < ids.shape[1]
