"""Radiation: the nodes whose phases fit a context best, chosen anew for every context
(spec/neurograph.md, sections 6 and 8.3).

The score of a node is the sum over dimensions of cos(context phase + node phase), which is an inner
product of 2 D features: the scores of any number of contexts are one matrix product. It finds a few
candidates more than are asked for, on a grid of 2^-17, ten times its rounding error; these are put
in order by sums of table entries in fixed point, which are exact in any order of summation. Of
equal scores the lowest index wins. Nothing is cached: the same context, parameters and graph give
the same neighbours whatever came before.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from jaxgraph.neurograph.tables import Tables, look_up, wrap

GRID = 2**17
"""Steps of a score of 1, of candidates."""
SPARE = 2
"""Candidates more than neighbours: for scores within a step of the last neighbour's."""
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
    candidates = _candidates(tables, context_phase, node_phase, excluded, top_k + SPARE)
    return _ordered(tables, context_phase, node_phase, candidates)[:, :top_k]


def _candidates(
    tables: Tables,
    context_phase: Int[Array, "c d"],
    node_phase: Int[Array, "n d"],
    excluded: UInt32[Array, "c g"] | UInt32[np.ndarray, "c g"],
    count: int,
) -> Int[Array, "c k"]:
    """The best nodes by rounded score, the lowest index first among equal ones."""
    nodes, width = node_phase.shape
    lanes = excluded.shape[1]
    count = min(count, nodes)
    # Nodes behind the last one, to fill the lanes.
    padded = jnp.pad(node_phase, ((0, WORD * lanes - nodes), (0, 0)))
    steps = jnp.round(scores(tables, context_phase, padded) * GRID).astype(jnp.int32)
    bits = (WORD * lanes - 1).bit_length()
    if width * GRID * 2**bits >= 2**31:
        return _by_sorting(steps, jnp.asarray(excluded), nodes, count)
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
    for _ in range(count - 1):
        last = found[-1][:, None]
        rest = (jnp.where(part < last, part, INT_MIN) for part in parts)
        found.append(jnp.max(functools.reduce(jnp.maximum, rest), 1))
    best = jnp.stack(found, 1)
    return jnp.where(best == INT_MIN, nodes, 2**bits - 1 - best % 2**bits)


def _by_sorting(
    steps: Int[Array, "c n"], excluded: UInt32[Array, "c g"], nodes: int, count: int
) -> Int[Array, "c k"]:
    """Where score and index do not fit into 32 bits."""
    out = jnp.concatenate([_bit(excluded, i) for i in range(WORD)], 1)
    value, index = jax.lax.top_k(jnp.where(out, INT_MIN, steps), count)
    return jnp.where(value == INT_MIN, nodes, index)


def _ordered(
    tables: Tables,
    context_phase: Int[Array, "c d"],
    node_phase: Int[Array, "n d"],
    candidates: Int[Array, "c k"],
) -> Int[Array, "c k"]:
    """Candidates by exact score, best first; n, which is nobody, last."""
    nodes, width = node_phase.shape
    digits = 30 - (width - 1).bit_length()
    fixed = np.round(tables.cos.astype(np.float64) * 2**digits).astype(np.int32)
    phase = node_phase[jnp.minimum(candidates, nodes - 1)] + context_phase[:, None]
    exact = jnp.sum(jnp.take(jnp.asarray(fixed), wrap(phase, tables.phase_bins), axis=0), -1)
    exact = jnp.where(candidates == nodes, INT_MIN, exact)
    mine, other = exact[:, :, None], exact[:, None]
    earlier = candidates[:, None] < candidates[:, :, None]
    # Several places may hold nobody: their order among themselves must be one, too.
    place = np.arange(candidates.shape[1])
    nobody = (candidates[:, None] == candidates[:, :, None]) & (place[None] < place[:, None])[None]
    rank = jnp.sum((other > mine) | ((other == mine) & (earlier | nobody)), -1)
    at = rank[:, None] == place[None, :, None]
    return jnp.sum(jnp.where(at, candidates[:, None], 0), -1)


def _bit(
    words: UInt32[Array, "c g"] | UInt32[np.ndarray, "c g"], place: int
) -> Bool[Array, "c g"]:
    return (jnp.asarray(words) >> np.uint32(place)) & np.uint32(1) == 1
