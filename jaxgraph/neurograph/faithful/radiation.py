"""Radiation: the nodes whose phases fit a context best, chosen anew for every context
(spec/neurograph.md, sections 6 and 8.3).

The score of a node is the sum over dimensions of cos(context phase + node phase), which is an inner
product of 2 D features, so that the scores of any number of contexts are one matrix product. Scores
are rounded to a grid of 2^-17, ten times the rounding error of the sum: scores that are equal in
exact arithmetic stay equal, and the lowest index wins. Nothing is cached: the same context,
parameters and graph give the same neighbours whatever came before.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.neurograph.tables import Tables, look_up

GRID = 2**17
"""Steps of a score of 1."""
INT_MIN = jnp.iinfo(jnp.int32).min


def scores(
    tables: Tables, context_phase: Int[Array, "c d"], node_phase: Int[Array, "n d"]
) -> Float[Array, "c n"]:
    """How well each node fits each context, in [-d, d]."""
    at = lambda table, index: look_up(table, index)  # noqa: E731
    context = jnp.concatenate([at(tables.cos, context_phase), at(tables.sin, context_phase)], 1)
    node = jnp.concatenate([at(tables.cos, node_phase), -at(tables.sin, node_phase)], 1)
    return jnp.einsum("cf,nf->cn", context, node, precision="highest")


def neighbours(
    tables: Tables,
    context_phase: Int[Array, "c d"],
    node_phase: Int[Array, "n d"],
    excluded: Bool[Array, "c n"] | Bool[np.ndarray, "c n"],
    top_k: int,
) -> Int[Array, "c k"]:
    """The best `top_k` nodes of each context, best first; n stands where there are no more."""
    nodes, width = node_phase.shape
    steps = jnp.round(scores(tables, context_phase, node_phase) * GRID).astype(jnp.int32)
    top_k = min(top_k, nodes)
    bits = (nodes - 1).bit_length()
    if width * GRID * 2**bits >= 2**31:
        return _sorted(steps, excluded, top_k)
    # Score and index in one integer: the largest is the best score, of equal ones the lowest index.
    index = jnp.arange(nodes, dtype=jnp.int32)
    keys = jnp.where(excluded, INT_MIN, steps * 2**bits + (2**bits - 1 - index)[None])
    best, found = jnp.max(keys, 1), []
    for _ in range(top_k):
        found.append(best)
        best = jnp.max(jnp.where(keys < best[:, None], keys, INT_MIN), 1)
    found = jnp.stack(found, 1)
    return jnp.where(found == INT_MIN, nodes, 2**bits - 1 - found % 2**bits)


def _sorted(
    steps: Int[Array, "c n"], excluded: Bool[Array, "c n"] | Bool[np.ndarray, "c n"], top_k: int
) -> Int[Array, "c k"]:
    """By a sort, where score and index do not fit into 32 bits."""
    value, index = jax.lax.top_k(jnp.where(excluded, INT_MIN, steps), top_k)
    return jnp.where(value == INT_MIN, steps.shape[1], index)
