"""Radiation: the nodes whose phases fit a context best, chosen anew for every context
(spec/neurograph.md, sections 6 and 8.3).

The score of a node is the sum over dimensions of cos(context phase + node phase), which is an inner
product of 2 D features, so that the scores of any number of contexts are one matrix product. Scores
are rounded to a grid of 2^-17, ten times the rounding error of the sum: scores that are equal in
exact arithmetic stay equal, and the lowest index wins. Nothing is cached: the same context,
parameters and graph give the same neighbours whatever came before.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from jaxgraph.neurograph.tables import Tables, look_up

GRID = 2**17
"""Steps of a score of 1."""
WORD = 32
INT_MIN = np.iinfo(np.int32).min


def scores(
    tables: Tables, context_phase: Int[Array, "c d"], node_phase: Int[Array, "n d"]
) -> Float[Array, "c n"]:
    """How well each node fits each context, in [-d, d]."""
    at = lambda table, index: look_up(table, index)  # noqa: E731
    context = jnp.concatenate([at(tables.cos, context_phase), at(tables.sin, context_phase)], 1)
    node = jnp.concatenate([at(tables.cos, node_phase), -at(tables.sin, node_phase)], 1)
    return jnp.einsum("cf,nf->cn", context, node, precision="highest")


def pack_excluded(excluded: Bool[np.ndarray, "c n"]) -> UInt32[np.ndarray, "c g"]:
    """Excluded nodes as bits: bit i of word g is node i * G + g, where G is the number of words.
    Places behind the last node are excluded."""
    count, nodes = excluded.shape
    lanes = max(1, -(-nodes // WORD))
    bits = np.ones((count, WORD * lanes), bool)
    bits[:, :nodes] = excluded
    places = np.arange(WORD, dtype=np.uint32)[None, :, None]
    return np.bitwise_or.reduce(
        bits.reshape(count, WORD, lanes).astype(np.uint32) << places, axis=1
    )


def neighbours(
    tables: Tables,
    context_phase: Int[Array, "c d"],
    node_phase: Int[Array, "n d"],
    excluded: UInt32[Array, "c g"] | UInt32[np.ndarray, "c g"],
    top_k: int,
) -> Int[Array, "c k"]:
    """The best `top_k` nodes of each context, best first; n stands where there are no more.

    Args:
      excluded: nodes that each context leaves out, from `pack_excluded`.
    """
    nodes, width = node_phase.shape
    lanes = excluded.shape[1]
    top_k = min(top_k, nodes)
    # Nodes behind the last one, to fill the lanes.
    padded = jnp.pad(node_phase, ((0, WORD * lanes - nodes), (0, 0)))
    steps = jnp.round(scores(tables, context_phase, padded) * GRID).astype(jnp.int32)
    bits = (WORD * lanes - 1).bit_length()
    if width * GRID * 2**bits >= 2**31:
        return _sorted(steps, jnp.asarray(excluded), nodes, top_k)
    # Score and index in one integer: the largest is the best score, of equal ones the lowest index.
    index = jnp.arange(WORD * lanes, dtype=jnp.int32)
    keys = steps * 2**bits + (2**bits - 1 - index)[None]
    parts = [
        jnp.where(_bit(excluded, i), INT_MIN, keys[:, i * lanes : (i + 1) * lanes])
        for i in range(WORD)
    ]
    # All numbers of a part are compared with those of the next at once, which a plain maximum over
    # the last axis is not: 5 times faster on a CPU.
    found = [jnp.max(functools.reduce(jnp.maximum, parts), 1)]
    for _ in range(top_k - 1):
        last = found[-1][:, None]
        rest = (jnp.where(part < last, part, INT_MIN) for part in parts)
        found.append(jnp.max(functools.reduce(jnp.maximum, rest), 1))
    best = jnp.stack(found, 1)
    return jnp.where(best == INT_MIN, nodes, 2**bits - 1 - best % 2**bits)


def _sorted(
    steps: Int[Array, "c n"], excluded: UInt32[Array, "c g"], nodes: int, top_k: int
) -> Int[Array, "c k"]:
    """By a sort, where score and index do not fit into 32 bits."""
    out = jnp.concatenate([_bit(excluded, i) for i in range(WORD)], 1)
    value, index = jax.lax.top_k(jnp.where(out, INT_MIN, steps), top_k)
    return jnp.where(value == INT_MIN, nodes, index)


def _bit(
    words: UInt32[Array, "c g"] | UInt32[np.ndarray, "c g"], place: int
) -> Bool[Array, "c g"]:
    return (jnp.asarray(words) >> np.uint32(place)) & np.uint32(1) == 1
