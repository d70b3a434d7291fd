"""The original's engine as it is, bookkeeping accidents included (spec/neurograph.md, 7 and 8.4).

Only golden cases need it: plain NumPy, one message after the other. Activations live in *slots*
handed out by first use; the list of active slots is then read as positions in the lexicographic
order of node names, so that contexts are attributed to other nodes than those that hold them.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxgraph.neurograph.faithful.activation import (
    CEILING,
    FALLS_BELOW,
    FLOOR,
    TARGET_ACTIVE,
)
from jaxgraph.neurograph.faithful.cell import Indices
from jaxgraph.neurograph.faithful.propagation import Dynamics
from jaxgraph.neurograph.faithful.radiation import neighbours, pack_excluded


class Record(NamedTuple):
    """States before each step and after the last, by slot; messages by position."""

    states: dict[str, np.ndarray]
    messages: dict[str, np.ndarray]
    n_steps: int


class SeedEngine:
    """State that outlives samples: freed slots, flags, threshold."""

    def __init__(self, dynamics: Dynamics):
        self._dynamics = dynamics
        topology = dynamics.topology
        count = topology.nodes
        self._order = np.array(sorted(range(count), key=str))
        """Nodes by position: the names' lexicographic order is their numbers'."""
        self._adjacency = topology.adjacency[np.ix_(self._order, self._order)]
        self._flags = topology.is_input.copy()
        self._threshold = dynamics.min_strength
        self._free: list[int] = []
        self._clear(1)

    def _clear(self, width: int) -> None:
        count = self._dynamics.topology.nodes
        self.mask = np.zeros(count, bool)
        self.phase = np.zeros((count, width), int)
        self.mag = np.zeros((count, width), int)
        self.strength = np.zeros(count, np.float32)
        self._slot_of: dict[int, int] = {}
        self.node_of: dict[int, int] = {}
        self._next = 0

    def active_slot(self, node: int) -> int | None:
        """Where a node's activation is, if it has one."""
        slot = self._slot_of.get(node)
        return slot if slot is not None and self.mask[slot] else None

    def run(self, nodes: Indices, phase: np.ndarray, mag: np.ndarray) -> Record:
        """The next sample's forward pass."""
        options, topology = self._dynamics, self._dynamics.topology
        self._clear(phase.shape[1])
        ones = np.ones(len(phase), np.float32)
        self._inject(range(len(phase)), phase, mag, ones)
        outputs = np.nonzero(topology.is_output)[0]
        states, messages, t = [self._snapshot()], [], 0
        while self.mask.any() and t < options.max_timesteps - 1:
            answered = any(self.active_slot(node) is not None for node in outputs)
            if t >= options.min_timesteps and answered:
                break
            found = self._messages(nodes, t)
            kept = (found["strength"] > 0) & self._flags[self._order[found["src"]]]
            targets = self._order[found["tgt"][kept]]
            self._inject(
                targets, found["phase"][kept], found["mag"][kept], found["strength"][kept]
            )
            self._flags[targets] = True
            self._decay_and_prune()
            messages.append(found | {"kept": kept})
            t += 1
            states.append(self._snapshot())
        width = phase.shape[1]
        return Record(
            {name: np.stack([state[name] for state in states]) for name in states[0]},
            _listed(messages, width),
            t,
        )

    def _messages(self, nodes: Indices, t: int) -> dict[str, np.ndarray]:
        """Candidates of all active slots, each taken for the node at the position of its number."""
        tables, top_k = self._dynamics.tables, self._dynamics.top_k
        sources = np.nonzero(self.mask)[0]
        pairs = [(s, j, True) for s in sources for j in np.nonzero(self._adjacency[s])[0]]
        phases, mags = (np.asarray(x)[self._order] for x in nodes)
        if top_k:
            excluded = self._adjacency | np.eye(len(self.mask), dtype=bool)
            best = np.asarray(neighbours(
                tables, jnp.asarray(self.phase), jnp.asarray(phases), pack_excluded(excluded), top_k
            ))
            pairs += [(s, j, False) for s in sources for j in best[s] if j < len(self.mask)]
        src, tgt, static = (np.array([pair[i] for pair in pairs], int) for i in range(3))
        phase = (self.phase[src] + phases[tgt]) % tables.phase_bins
        mag = (self.mag[src] + mags[tgt]) % tables.mag_bins
        strength = (tables.cos[phase] * tables.exp_sin[mag]).sum(-1, dtype=np.float32)
        return {
            "t": np.full(len(src), t), "src": src, "tgt": tgt, "is_static": static == 1,
            "phase": phase, "mag": mag, "strength": strength,
        }  # fmt: skip

    def _inject(self, targets: Any, phase: Any, mag: Any, strength: Any) -> None:
        """Every message reads what was there before all of them; the last one is kept."""
        tables = self._dynamics.tables
        before = self.mask.copy(), self.phase.copy(), self.mag.copy(), self.strength.copy()
        slots = [self._slot(int(node)) for node in targets]
        for slot, p, m, s in zip(slots, phase, mag, strength, strict=True):
            was, old_p, old_m, old_s = (x[slot] for x in before)
            self.phase[slot] = (p + old_p * was) % tables.phase_bins
            self.mag[slot] = (m + old_m * was) % tables.mag_bins
            self.strength[slot] = s + old_s * was
            self.mask[slot] = True

    def _slot(self, node: int) -> int:
        """A node's slot: its own, else the one freed last, else the next never used. A slot that
        was freed in an earlier sample can be handed out twice."""
        if node in self._slot_of:
            return self._slot_of[node]
        if self._free:
            slot = self._free.pop()
        else:
            slot, self._next = self._next, self._next + 1
        self._slot_of[node], self.node_of[slot] = slot, node
        return slot

    def _decay_and_prune(self) -> None:
        """The threshold outlives the sample; freed slots do too."""
        active = int(self.mask.sum())
        if not active:
            return
        theta = self._threshold
        if active > TARGET_ACTIVE:
            theta *= 1 + 0.1 * active / TARGET_ACTIVE
        elif active < FALLS_BELOW:
            theta *= 0.95
        if active > 0.9 * len(self.mask):
            theta *= 2
        self._threshold = theta = float(np.clip(theta, FLOOR, CEILING))
        self.strength[self.mask] *= np.float32(self._dynamics.decay)
        for slot in np.nonzero(self.mask & (self.strength < np.float32(theta)))[0]:
            node = self.node_of.get(slot)
            if node is not None and self._dynamics.topology.is_output[node]:
                continue
            self.mask[slot], self.strength[slot] = False, 0
            if node is not None:  # a shared slot that was freed once has no node any more
                del self.node_of[slot]
                self._slot_of.pop(node, None)
                self._free.append(slot)

    def _snapshot(self) -> dict[str, np.ndarray]:
        slots = np.array([self.node_of.get(slot, -1) for slot in range(len(self.mask))])
        return {
            "mask": self.mask.copy(), "phase": self.phase.copy(), "mag": self.mag.copy(),
            "strength": self.strength.copy(), "slot_node": slots, "flags": self._flags.copy(),
            "threshold": np.float64(self._threshold),
        }  # fmt: skip


def _listed(messages: list[dict[str, np.ndarray]], width: int) -> dict[str, np.ndarray]:
    """All steps' messages in order."""
    empty = {name: np.zeros(0, int) for name in ("t", "src", "tgt", "is_static", "strength")}
    empty |= {"kept": np.zeros(0, bool)}
    empty |= {name: np.zeros((0, width), int) for name in ("phase", "mag")}
    whole = {name: np.concatenate([m[name] for m in (empty, *messages)]) for name in empty}
    kept = whole["kept"].astype(bool)
    return {f"msg_{name}": whole[name] for name in ("t", "src", "tgt", "is_static")} | {
        f"kept_{name}": whole[name][kept] for name in ("t", "tgt", "phase", "mag", "strength")
    }
