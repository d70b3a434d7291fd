"""Golden forward passes: every state and every message of each sample (spec/neurograph.md, 8)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases.neurograph_asis import SeedEngine
from jaxgraph.neurograph.faithful.cell import Indices
from jaxgraph.neurograph.faithful.propagation import (
    Dynamics,
    Messages,
    radiation_messages,
    static_messages,
    trace,
)
from jaxgraph.neurograph.faithful.topology import Topology, build_topology
from jaxgraph.neurograph.tables import make_tables

MARK = "act_mask"
GIVEN = (
    "n", "n_in", "n_out", "D", "N", "M", "card", "top_k", "decay", "min_strength", "max_ts",
    "use_rad", "edges_reversed", "mode_canon", "seed", "node_phase", "node_mag", "class_phase",
    "class_mag", "in_phase", "in_mag",
)  # fmt: skip


@dataclass(frozen=True)
class Network:
    """What the entries under a prefix describe."""

    case: Case
    prefix: str
    dynamics: Dynamics
    nodes: Indices
    canon: bool

    def __getitem__(self, name: str) -> np.ndarray:
        return self.case[self.prefix + name]

    @property
    def trained_outputs(self) -> np.ndarray:
        """The nodes that the trainer reads: in `asis` those behind the inputs (defect D8)."""
        topology = self.dynamics.topology
        first = topology.nodes - topology.outputs if self.canon else topology.inputs
        return np.arange(first, first + topology.outputs)

    def engine(self) -> "SeedEngine | None":
        """What stands for the original's engine over a run of samples, if it is not ours."""
        return None if self.canon else SeedEngine(self.dynamics)


class Trace(NamedTuple):
    """A sample's pass as the cases record it: states before each step and after the last, by slot,
    and messages in the original's order."""

    states: dict[str, np.ndarray]
    messages: dict[str, np.ndarray]
    n_steps: int
    out_nodes: np.ndarray
    """Nodes that the trainer reads and finds active."""
    out_phase: np.ndarray
    out_mag: np.ndarray
    graph_outputs_active: np.ndarray


def prefixes(case: Case) -> list[str]:
    """Of the networks in a file of traces."""
    marks = (name for name in case.arrays if name.endswith(f"_s0_{MARK}"))
    return [name.removesuffix(f"s0_{MARK}") for name in marks]


def check(case: Case, checks: Checks) -> None:
    """Recomputes one file."""
    for prefix in prefixes(case):
        network = load_network(case, prefix)
        check_network(network, checks)
        engine = network.engine()
        for sample, found in enumerate(run_all(network, engine)):
            compare_trace(network, checks, f"s{sample}_", found)
            compare_outputs(network, checks, f"s{sample}_", found)


def load_network(case: Case, prefix: str) -> Network:
    """The graph is drawn anew from its seed; all else that is given is read."""
    get = lambda name: case[prefix + name].item()  # noqa: E731
    topology = build_topology(
        get("n"), get("n_in"), get("n_out"), get("card"), get("seed"),
        "forward" if get("edges_reversed") else "upstream",
    )  # fmt: skip
    dynamics = Dynamics(
        topology=topology,
        tables=make_tables(get("N"), get("M")),
        top_k=get("top_k") if get("use_rad") else 0,
        decay=get("decay"),
        min_strength=get("min_strength"),
        max_timesteps=get("max_ts"),
        min_timesteps=topology.connectivity.min_timesteps,
    )
    shape = (get("n"), get("D"))
    nodes = Indices(*(
        jnp.asarray(case.shaped(f"{prefix}node_{name}", shape)) for name in ("phase", "mag")
    ))
    return Network(case, prefix, dynamics, nodes, bool(get("mode_canon")))


def check_network(network: Network, checks: Checks) -> None:
    """What follows from the sizes and the seed."""
    prefix, topology = network.prefix, network.dynamics.topology
    checks.given |= {prefix + name for name in GIVEN}
    order = np.arange(topology.nodes)
    if not network.canon:
        order = np.array(sorted(order, key=str))
    # The original is handed the transposed table, and not told that it is.
    upstream = Topology(sent_to(topology), topology.inputs, topology.outputs)
    rows = topology.sources if topology.edges == "upstream" else upstream.sources
    width = max(map(len, rows))
    rows = np.array([[*row, *[-1] * (width - len(row))] for row in rows])
    for name, value in {
        "connections": rows,
        "is_input": topology.is_input,
        "is_output": topology.is_output,
        "min_required_timesteps": network.dynamics.min_timesteps,
        "trainer_output_nodes": network.trained_outputs,
        "prop_index_to_node": order,
        "adjacency": topology.adjacency[np.ix_(order, order)],
    }.items():
        checks.compare(prefix + name, value, "exact")


def sent_to(topology: Topology) -> tuple[tuple[int, ...], ...]:
    """Of each node, those it sends to."""
    return tuple(tuple(np.nonzero(row)[0].tolist()) for row in topology.adjacency)


def run_all(network: Network, engine: SeedEngine | None) -> list[Trace]:
    """All samples, one after the other."""
    inputs = Indices(network["in_phase"], network["in_mag"])
    if engine is None:
        step = jax.jit(lambda nodes, *sample: traced(network.dynamics, nodes, *sample))
        return [canon_trace(network, step(network.nodes, *x)) for x in zip(*inputs, strict=True)]
    nodes = Indices(*map(np.asarray, network.nodes))
    return [asis_trace(network, engine, nodes, *sample) for sample in zip(*inputs, strict=True)]


def traced(dynamics: Dynamics, nodes: Indices, phase: Any, mag: Any) -> Any:
    """A sample's pass, the states before each of its steps, and their messages."""
    passed, states = trace(dynamics, nodes, phase, mag)
    lists = [jax.vmap(lambda s: static_messages(dynamics, nodes, s))(states)]
    if dynamics.top_k:
        everyone = jnp.arange(dynamics.topology.nodes)
        lists.append(jax.vmap(lambda s: radiation_messages(dynamics, nodes, s, everyone))(states))
    return passed, states, lists


def canon_trace(network: Network, found: Any) -> Trace:
    """Our pass in the original's words: slots are nodes, and what has received is flagged."""
    passed, states, lists = jax.device_get(found)
    steps, count = int(passed.timesteps), network.dynamics.topology.nodes
    full = {
        name: np.concatenate([getattr(states, name)[:steps], getattr(passed.state, name)[None]])
        for name in ("mask", "phase", "mag", "strength", "threshold")
    }
    messages = listed(lists, steps)
    flags = np.repeat(network.dynamics.topology.is_input[None], steps + 1, 0)
    for t, target in zip(messages["kept_t"], messages["kept_tgt"], strict=True):
        flags[t + 1 :, target] = True
    full["slot_node"] = np.where(full["mask"], np.arange(count)[None], -1)
    active = network.trained_outputs[passed.state.mask[network.trained_outputs]]
    return Trace(
        full | {"flags": flags}, messages, steps, active, passed.state.phase[active],
        passed.state.mag[active], passed.state.mask[network.dynamics.topology.is_output],
    )  # fmt: skip


def listed(lists: list[Messages], steps: int) -> dict[str, np.ndarray]:
    """Candidates and survivors of the executed steps: static ones first, then radiated ones."""
    parts = []
    for block, messages in enumerate(lists):
        valid = messages.valid[:steps].reshape(steps, -1)
        time, place = np.nonzero(valid)
        flat = lambda x, valid=valid: x[: len(valid)].reshape(*valid.shape, -1)[valid]  # noqa: E731
        parts.append({
            "t": time, "block": np.full(len(time), block), "place": place,
            "src": flat(messages.source)[:, 0], "tgt": flat(messages.target)[:, 0],
            "kept": flat(messages.kept)[:, 0], "phase": flat(messages.content.phase),
            "mag": flat(messages.content.mag), "strength": flat(messages.content.strength)[:, 0],
        })  # fmt: skip
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((whole["place"], whole["block"], whole["t"]))
    whole = {name: value[order] for name, value in whole.items()}
    kept = whole["kept"]
    return {
        "msg_t": whole["t"], "msg_src": whole["src"], "msg_tgt": whole["tgt"],
        "msg_is_static": whole["block"] == 0, "kept_t": whole["t"][kept],
        "kept_tgt": whole["tgt"][kept], "kept_phase": whole["phase"][kept],
        "kept_mag": whole["mag"][kept], "kept_strength": whole["strength"][kept],
    }  # fmt: skip


def asis_trace(network: Network, engine: SeedEngine, nodes: Indices, phase: Any, mag: Any) -> Trace:
    """The next sample of the original's engine."""
    record = engine.run(nodes, phase, mag)
    slots = {node: engine.active_slot(node) for node in map(int, network.trained_outputs)}
    active = [node for node, slot in slots.items() if slot is not None]
    at = [slots[node] for node in active]
    outputs = np.nonzero(network.dynamics.topology.is_output)[0]
    return Trace(
        record.states, record.messages, record.n_steps, np.array(active, int), engine.phase[at],
        engine.mag[at],
        np.array([engine.active_slot(node) is not None for node in outputs]),
    )  # fmt: skip


def compare_trace(network: Network, checks: Checks, sample: str, found: Trace) -> None:
    """States and messages; indices where something is active, since others are left over."""
    prefix = network.prefix + sample
    states = found.states
    checks.compare(f"{prefix}n_steps", found.n_steps, "exact")
    checks.compare(f"{prefix}act_mask", states["mask"], "exact")
    checks.compare(f"{prefix}act_strength", states["strength"], "neuro_value")
    for name in ("phase", "mag"):
        name_here, mask = f"{prefix}act_{name}", checks.case.arrays.get(f"{prefix}act_mask")
        expected, ours = checks.case.arrays.get(name_here), states[name]
        if expected is None:
            continue
        if mask is not None and ours.shape[:2] == mask.shape == expected.shape[:2]:
            ours, expected = ours[mask], expected[mask]
        checks.compare_with(name_here, ours, expected, "exact")
    checks.compare(f"{prefix}slot_node", states["slot_node"], "exact")
    checks.compare(f"{prefix}flags", states["flags"], "exact")
    checks.compare(f"{prefix}threshold", states["threshold"], "neuro_value")
    for name, value in found.messages.items():
        kind = "neuro_value" if name == "kept_strength" else "exact"
        checks.compare(prefix + name, value, kind)


def compare_outputs(network: Network, checks: Checks, sample: str, found: Trace) -> None:
    """What the trainer reads at the end."""
    prefix = network.prefix + sample
    tables = network.dynamics.tables
    signals = tables.cos[found.out_phase] * tables.exp_sin[found.out_mag]
    checks.compare(f"{prefix}out_nodes", found.out_nodes, "exact")
    checks.compare(f"{prefix}out_signals", signals, "neuro_value")
    checks.compare(f"{prefix}graph_outputs_active", found.graph_outputs_active, "exact")
