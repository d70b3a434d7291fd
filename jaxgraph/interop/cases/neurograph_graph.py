"""Golden graphs, cells and radiation, and a model of the original's radiation cache
(spec/neurograph.md, sections 3, 5 and 6)."""

import jax.numpy as jnp
import numpy as np

from jaxgraph.interop.case import Case, Checks
from jaxgraph.neurograph.faithful.cell import cell, phase_similarity, routing_strength
from jaxgraph.neurograph.faithful.radiation import neighbours, pack_excluded, scores
from jaxgraph.neurograph.faithful.topology import Topology, build_topology
from jaxgraph.neurograph.tables import Tables, look_up, make_tables

GIVEN = {
    "n", "n_in", "n_out", "cardinality", "N", "M", "D", "graph_seed", "top_k", "node_phase",
    "node_mag", "cell_ctx_phase", "cell_self_phase", "cell_ctx_mag", "cell_self_mag", "rad_node",
    "rad_ctx_phase", "cache_node", "cache_ctx", "cache_params_changed_at",
    "cache_node_phase_after",
}  # fmt: skip
CACHE_ENTRIES, CACHE_DROPS = 1000, 200
"""Of the original's pattern cache: entries it holds, and oldest ones dropped when it is full."""


def check(case: Case, checks: Checks) -> None:
    """Recomputes one file."""
    checks.given |= GIVEN
    tables = make_tables(int(case["N"]), int(case["M"]))
    sizes = [int(case[name]) for name in ("n", "n_in", "n_out", "cardinality", "graph_seed")]
    topology = build_topology(*sizes)
    compare_rows(checks, "", topology)
    for name, value in case.arrays.items():
        if name.startswith("extra") and name.endswith("_params"):
            checks.given.add(name)
            extra = build_topology(*map(int, value))
            compare_rows(checks, name.removesuffix("params"), extra)
    check_connectivity(checks, topology)
    check_cell(case, checks, tables)
    check_radiation(case, checks, tables, topology)
    check_cache(case, checks, tables, topology)


def compare_rows(checks: Checks, prefix: str, topology: Topology) -> None:
    """The sources of each node in their order, and the two kinds of nodes."""
    width = max(map(len, topology.sources))
    rows = [[*row, *[-1] * (width - len(row))] for row in topology.sources]
    checks.compare(f"{prefix}connections", np.array(rows), "exact")
    checks.compare(f"{prefix}is_input", topology.is_input, "exact")
    checks.compare(f"{prefix}is_output", topology.is_output, "exact")


def check_connectivity(checks: Checks, topology: Topology) -> None:
    """Distances from inputs to outputs."""
    found = topology.connectivity
    for name, value in {
        "min_hops": found.min_hops,
        "avg_hops": found.avg_hops,
        "connected_inputs": found.connected_inputs,
        "input_connectivity_rate": found.connected_inputs / topology.inputs,
        "reachable_outputs": found.reachable_outputs,
        "output_reachability_rate": found.reachable_outputs / topology.outputs,
        "direct_pairs": found.direct_pairs,
        "min_required_timesteps": found.min_timesteps,
    }.items():
        checks.compare(f"conn_{name}", value, "float64")


def check_cell(case: Case, checks: Checks, tables: Tables) -> None:
    """Contexts at nodes, and two measures of how phases fit."""
    context, own = (jnp.asarray(case[f"cell_{name}_phase"]) for name in ("ctx", "self"))
    mags = (jnp.asarray(case[f"cell_{name}_mag"]) for name in ("ctx", "self"))
    context_mag, own_mag = mags
    out = cell(tables, context, context_mag, own, own_mag)
    checks.compare("cell_phase_out", out.phase, "exact")
    checks.compare("cell_mag_out", out.mag, "exact")
    slope = look_up(tables.exp_sin_slope, out.mag) * tables.seed_mag_width
    for name, value in {
        "signal": out.signal,
        "strength": out.strength,
        "grad_phase": -look_up(tables.sin, out.phase) * tables.phase_width,
        "grad_mag": slope,
        "routing_strength": routing_strength(context, own, tables.phase_bins),
        "phase_similarity": phase_similarity(context, own, tables.phase_bins),
    }.items():
        checks.compare(f"cell_{name}", value, "neuro_value")


def check_radiation(case: Case, checks: Checks, tables: Tables, topology: Topology) -> None:
    """Scores of all candidates and the best of them, for each query."""
    nodes, contexts = jnp.asarray(case["node_phase"]), jnp.asarray(case["rad_ctx_phase"])
    excluded = topology.excluded[case["rad_node"]]
    found = np.where(excluded, np.nan, scores(tables, contexts, nodes))
    expected = case["rad_scores"]
    if found.shape == expected.shape:  # excluded candidates are NaN on both sides
        same = np.isnan(expected) & excluded
        found, expected = np.where(same, 0, found), np.where(same, 0, expected)
    checks.compare_with("rad_scores", found, expected, "neuro_value")
    best = neighbours(tables, contexts, nodes, pack_excluded(excluded), int(case["top_k"]))
    checks.compare("rad_neighbors", best, "exact")
    last = topology.nodes - 1
    others = pack_excluded(topology.excluded[[last]])
    everyone = np.asarray(neighbours(tables, contexts[:1], nodes, others, topology.nodes))
    checks.compare("rad_all_sorted", everyone[everyone < topology.nodes], "exact")


def check_cache(case: Case, checks: Checks, tables: Tables, topology: Topology) -> None:
    """What the original's cache returns, stale entries included, and how it drops entries."""
    node, top_k = int(case["cache_node"]), int(case["top_k"])
    coarse = max(1, tables.phase_bins // 128)
    contexts = case["cache_ctx"]
    changed = int(case["cache_params_changed_at"])
    excluded = pack_excluded(topology.excluded[[node]])
    patterns: dict[tuple, np.ndarray] = {}
    returned, exact, table = [], [], []
    stats = np.zeros(6, int)
    for call, context in enumerate(contexts):
        phase = case["cache_node_phase_after" if call >= changed else "node_phase"]
        found = np.asarray(neighbours(
            tables, jnp.asarray(context[None]), jnp.asarray(phase), excluded, top_k
        ))[0]
        key = (node, tuple(context // coarse * coarse), top_k)
        known = key in patterns
        stats[0 if known else 1] += 1
        if not known:
            # The node's edges and its candidates are cached too, from its first miss on.
            stats[[2, 4] if patterns else [3, 5]] += 1
            insert(patterns, key, found)
        exact.append(found)
        returned.append(patterns[key])
        table.append(stats.copy())
    checks.compare("cache_quant_factor", coarse, "exact")
    checks.compare("cache_exact", np.stack(exact), "exact")
    checks.compare("cache_returned", np.stack(returned), "exact")
    checks.compare("cache_stats", np.stack(table), "exact")
    entries: dict[int, int] = {}
    sizes = []
    for i in range(len(case["cache_fifo_sizes"])):
        insert(entries, i, i)
        sizes.append(len(entries))
    checks.compare("cache_fifo_sizes", np.array(sizes), "exact")
    checks.compare("cache_fifo_oldest_after", next(iter(entries), -1), "exact")


def insert(entries: dict, key, value) -> None:
    """Adds an entry; a full cache drops its oldest first."""
    if len(entries) >= CACHE_ENTRIES:
        for old in list(entries)[:CACHE_DROPS]:
            del entries[old]
    entries[key] = value
