"""How far experts are apart: orthogonality of their outputs and weights (spec/moe.md, 8)."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from jaxgraph.nn import across

MATRICES = {
    "ffn_input": ("up/kernel",),
    "ffn_output": ("down/kernel",),
    "attention": ("attention/qkv/kernel",),
    "combined": ("up/kernel", "down/kernel", "attention/qkv/kernel"),
}
"""Which matrices of an expert `weight_target` means, by their paths in its parameters."""


def unit(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """Vectors of length 1; zeros stay zeros and get no gradient."""
    square = jnp.sum(jnp.square(x), -1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))


def off_diagonal(gram: Float[Array, "*n p p"]) -> Float[Array, "*n"]:
    """Mean of the entries off the diagonal; 0 for one expert."""
    count = gram.shape[-1]
    others = jnp.where(jnp.eye(count, dtype=bool), 0, gram)
    return others.sum((-1, -2)) / max(count * (count - 1), 1)


def distance_to_identity(gram: Float[Array, "p p"]) -> Float[Array, ""]:
    """mean_ij (G_ij - δ_ij)²: asks vectors to be orthogonal and of length 1."""
    return jnp.mean(jnp.square(gram - jnp.eye(len(gram))))


def pairwise_cosine(features: Float[Array, "p b t d"]) -> Float[Array, "b t"]:
    """Mean squared cosine between the features of different experts, per token; 0 for one expert.

    Cosine form of the seed's output orthogonality (spec 8). Of outputs it says little, since all of
    them contain the layer's input.
    """
    features = unit(features.astype(jnp.float32))
    return off_diagonal(jnp.square(jnp.einsum("pbtd,qbtd->btpq", features, features)))


def output_loss(
    features: Float[Array, "p b t d"], mask: Float[Array, "b t"], form: str, over: str
) -> Float[Array, ""]:
    """Output orthogonality of one layer over the tokens that `mask` counts; 0 is orthogonal.

    G is the Gram matrix of the experts' features: of unit vectors for `cosine`, which then gives
    the mean of G_ij² off the diagonal; of the features themselves for `gram`, which gives
    mean_ij (G_ij - δ_ij)². `token` takes the mean of each token's value, `pool` the value of the
    mean G, `mean` the value of the mean feature's G. The seed has `pool` and `mean`.
    """
    if over == "token":
        return jnp.sum(pairwise_cosine(features) * mask) / jnp.maximum(mask.sum(), 1)
    share = mask / jnp.maximum(across.total(mask.sum()), 1)
    features = features.astype(jnp.float32)
    if over == "mean":
        features = across.total(jnp.einsum("pbtd,bt->pd", features, share))[:, None, None]
        share = jnp.ones((1, 1)) / across.devices()
    features = features if form == "gram" else unit(features)
    gram = across.total(jnp.einsum("pbtd,qbtd,bt->pq", features, features, share))
    return distance_to_identity(gram) if form == "gram" else off_diagonal(jnp.square(gram))


def output_chance(width: int, tokens: Float[Array, ""], over: str) -> Float[Array, ""]:
    """What `output_loss` of form `cosine` gives on average for random directions."""
    return 1 / (width * (jnp.maximum(tokens, 1) if over == "pool" else jnp.ones(())))


def flat_matrices(experts: Any, target: str) -> list[Float[Array, "p _"]]:
    """The matrices of a bank of experts that `target` names, each flat, in float32.

    Outputs come first, as in the seed: which entries of matrices of different kinds meet in
    `combined` depends on it.
    """
    leaves = flatten_dict(experts, sep="/")
    matrices = (leaves[name].astype(jnp.float32) for name in MATRICES[target])
    by_input = [leaf.reshape(*leaf.shape[:2], -1) for leaf in matrices]
    return [jnp.swapaxes(leaf, 1, 2).reshape(len(leaf), -1) for leaf in by_input]


def weight_rows(experts: Any, target: str) -> Float[Array, "r k"]:
    """One row per expert and matrix of `target`, padded to the longest (spec 8)."""
    parts = flat_matrices(experts, target)
    longest = max(part.shape[1] for part in parts)
    return jnp.concatenate([jnp.pad(p, ((0, 0), (0, longest - p.shape[1]))) for p in parts])


def weight_loss(rows: Float[Array, "r k"], form: str) -> Float[Array, ""]:
    """Weight orthogonality: mean squared cosine between rows, or the seed's Gram form.

    The seed does not normalise, so its form also asks every matrix for Frobenius norm 1.
    """
    if form == "gram":
        return distance_to_identity(rows @ rows.T)
    rows = unit(rows)
    return off_diagonal(jnp.square(rows @ rows.T))


def specialization(rows: Float[Array, "r k"]) -> Float[Array, ""]:
    """1 - mean |cosine| between rows, the seed's score; to be read against `chance_level`."""
    rows = unit(rows)
    return jnp.clip(1 - off_diagonal(jnp.abs(rows @ rows.T)), 0, 1)


def chance_level(experts: Any, target: str) -> float:
    """Specialization that random Gaussian matrices of these sizes have on average.

    1 - sqrt(2/π)/sqrt(n) for rows of n entries (spec 8): 0.9969 for n = 4·128². Of rows of
    different length, the longer one counts.
    """
    sizes = [p.shape[1] for p in flat_matrices(experts, target) for _ in range(len(p))]
    cosines = [math.sqrt(2 / math.pi / max(pair)) for pair in itertools.combinations(sizes, 2)]
    return 1 - sum(cosines) / max(len(cosines), 1)


def warmup(step: Any, steps: int) -> Float[Array, ""]:
    """min(1, step/steps): the factor of all orthogonality losses."""
    return jnp.minimum(1.0, step / max(steps, 1))
