"""Radiation: exact best nodes, ties, exclusions, and no memory of what came before."""

import jax
import numpy as np
import pytest

from jaxgraph.neurograph.faithful.radiation import neighbours, pack_excluded
from jaxgraph.neurograph.tables import make_tables

RNG = np.random.default_rng(0)


def by_sorting(tables, contexts, nodes, excluded, top_k):
    """The definition, in double precision."""
    angle = 2 * np.pi * ((contexts[:, None] + nodes[None]) % tables.phase_bins)
    score = np.cos(angle / tables.phase_bins).sum(-1)
    rows = []
    for row, out in zip(np.round(score * 2**24), excluded, strict=True):
        order = sorted((j for j in range(len(nodes)) if not out[j]), key=lambda j: (-row[j], j))
        rows.append([*order[:top_k], *[len(nodes)] * (top_k - len(order))])
    return np.array(rows)


def draw(bins, count, nodes, width):
    contexts = RNG.integers(0, bins, (count, width)).astype(np.int32)
    return contexts, RNG.integers(0, bins, (nodes, width)).astype(np.int32)


@pytest.mark.parametrize("bins, nodes, width, top_k", [
    (4, 37, 1, 5),  # many exact ties
    (8, 64, 2, 6),
    (512, 70, 5, 6),
    (512, 1000, 16, 3),  # score and index do not fit into one integer
])
def test_the_best_nodes_and_ties_to_the_lowest_index(bins, nodes, width, top_k):
    tables = make_tables(bins, 16)
    contexts, phases = draw(bins, 9, nodes, width)
    excluded = RNG.random((9, nodes)) < 0.3
    excluded[0] = True
    excluded[1] = np.arange(nodes) > 2  # fewer candidates than asked for
    expected = by_sorting(tables, contexts, phases, excluded, top_k)
    found = neighbours(tables, contexts, phases, pack_excluded(excluded), top_k)
    np.testing.assert_array_equal(found, expected)


def test_scores_closer_than_the_grid_of_candidates():
    """Node 0 fits by 1.2e-6 less than node 1, a sixth of a step."""
    tables = make_tables(4096, 16)
    phases = np.array([[1], [0], [1000]], np.int32)
    nobody, context = pack_excluded(np.zeros((1, 3), bool)), np.zeros((1, 1), np.int32)
    found = neighbours(tables, context, phases, nobody, 1)
    assert found.tolist() == [[1]]


def test_no_history_and_no_neighbourhood_in_a_batch():
    """The original's cache answers from what was asked before; this answers from its arguments."""
    tables = make_tables(512, 16)
    contexts, phases = draw(512, 12, 50, 5)
    others = RNG.integers(0, 512, phases.shape).astype(np.int32)
    words = pack_excluded(np.zeros((12, 50), bool))
    ask = jax.jit(lambda c, p, w: neighbours(tables, c, p, w, 4))
    first = np.asarray(ask(contexts, phases, words))
    changed = np.asarray(ask(contexts, others, words))
    assert (changed != first).any()
    order = RNG.permutation(12)
    np.testing.assert_array_equal(ask(contexts[order], phases, words), first[order])
    np.testing.assert_array_equal(ask(contexts, phases, words), first)
    for i in range(12):
        alone = neighbours(tables, contexts[[i]], phases, words[[i]], 4)
        np.testing.assert_array_equal(alone[0], first[i])
