"""The forward pass: messages, one of which a node takes in each timestep, until an output is active
(spec/neurograph.md, section 8.3).

Of several messages to a node the original keeps the last of its list: radiation comes behind static
edges, and a higher source behind a lower one. So the winner is the message of the highest rank,
`source` on a static edge and `n + source` by radiation.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from jaxgraph.neurograph.faithful.activation import (
    Activation,
    decay_and_prune,
    inject,
    inject_inputs,
)
from jaxgraph.neurograph.faithful.cell import CellOut, Indices, cell
from jaxgraph.neurograph.faithful.radiation import neighbours, pack_excluded
from jaxgraph.neurograph.faithful.topology import Topology
from jaxgraph.neurograph.tables import Tables

BLOCK = 64
"""Active nodes whose neighbours are looked for at once: their keys fit into a core's cache."""


@dataclass(frozen=True, eq=False)
class Dynamics:
    """Everything about forward passes that parameters and inputs do not say."""

    topology: Topology
    tables: Tables
    top_k: int
    """Nodes that an active node radiates to; 0 turns radiation off."""
    decay: float
    min_strength: float
    max_timesteps: int
    min_timesteps: int
    """Timesteps before an active output may end the pass."""

    @functools.cached_property
    def excluded(self) -> UInt32[np.ndarray, "n g"]:
        """Whom each node does not radiate to."""
        return pack_excluded(self.topology.excluded)


class Messages(NamedTuple):
    """Candidates ``[...]``: `valid` ones have an active source and a target, `kept` ones a strength
    above 0 too."""

    source: Any
    target: Any
    valid: Any
    kept: Any
    content: CellOut


class Passed(NamedTuple):
    """A finished forward pass."""

    state: Activation
    timesteps: Any


def static_messages(dynamics: Dynamics, nodes: Indices, state: Activation) -> Messages:
    """Along the edges, in the original's order."""
    source, target = jnp.asarray(dynamics.topology.static_edges)
    return _messages(dynamics, nodes, state, source, target, state.mask[source])


def radiation_messages(
    dynamics: Dynamics, nodes: Indices, state: Activation, source: Int[Array, " r"]
) -> Messages:
    """From these nodes to their neighbours, ``[r, k]``; a source of n stands for nobody."""
    count = dynamics.topology.nodes
    real = source < count
    source = jnp.minimum(source, count - 1)
    excluded = jnp.asarray(dynamics.excluded)[source]
    target = neighbours(
        dynamics.tables, state.phase[source], nodes.phase, excluded, dynamics.top_k
    )
    valid = (real & state.mask[source])[:, None] & (target < count)
    source = jnp.broadcast_to(source[:, None], target.shape)
    return _messages(dynamics, nodes, state, source, jnp.minimum(target, count - 1), valid)


def _messages(
    dynamics: Dynamics,
    nodes: Indices,
    state: Activation,
    source: Array,
    target: Array,
    valid: Array,
) -> Messages:
    content = cell(
        dynamics.tables, state.phase[source], state.mag[source],
        nodes.phase[target], nodes.mag[target],
    )  # fmt: skip
    return Messages(source, target, valid, valid & (content.strength > 0), content)


def winners(dynamics: Dynamics, nodes: Indices, state: Activation) -> Int[Array, " n"]:
    """The rank of the message that each node takes; -1 where it gets none."""
    count = dynamics.topology.nodes
    best = _rank(
        jnp.full(count, -1, jnp.int32), static_messages(dynamics, nodes, state), offset=0
    )
    if not dynamics.top_k:
        return best
    # Only the active nodes radiate: they are lined up, and taken block by block until none is left.
    (active,) = jnp.nonzero(state.mask, size=-(-count // BLOCK) * BLOCK, fill_value=count)
    blocks = -(-jnp.sum(state.mask) // BLOCK)

    def one(i: Array, best: Array) -> Array:
        source = jax.lax.dynamic_slice_in_dim(active, i * BLOCK, BLOCK)
        return _rank(best, radiation_messages(dynamics, nodes, state, source), offset=count)

    return jax.lax.fori_loop(0, blocks, one, best)


def _rank(best: Int[Array, " n"], messages: Messages, offset: int) -> Int[Array, " n"]:
    rank = jnp.where(messages.kept, offset + messages.source, -1)
    return best.at[messages.target.ravel()].max(rank.ravel())


def step(dynamics: Dynamics, nodes: Indices, state: Activation) -> Activation:
    """One timestep."""
    rank = winners(dynamics, nodes, state)
    source = jnp.maximum(rank, 0) % dynamics.topology.nodes
    arrived = cell(
        dynamics.tables, state.phase[source], state.mag[source], nodes.phase, nodes.mag
    )
    state = inject(state, arrived, rank >= 0, dynamics.tables)
    return decay_and_prune(state, dynamics.decay, dynamics.topology.is_output)


def ended(dynamics: Dynamics, state: Activation, timestep: Int[Array, ""]) -> Array:
    """Whether the pass stops before this timestep: nothing is active, or an output is and enough
    steps were made, or no step is left."""
    answered = jnp.any(state.mask & dynamics.topology.is_output)
    return (
        ~jnp.any(state.mask)
        | ((timestep >= dynamics.min_timesteps) & answered)
        | (timestep >= dynamics.max_timesteps - 1)
    )


def start(
    dynamics: Dynamics, phase: Int[Array, "i d"], mag: Int[Array, "i d"]
) -> Activation:
    """The state that inputs make."""
    return inject_inputs(
        dynamics.topology.nodes, phase, mag, dynamics.tables, dynamics.min_strength
    )


def forward(
    dynamics: Dynamics, nodes: Indices, phase: Int[Array, "i d"], mag: Int[Array, "i d"]
) -> Passed:
    """A sample's forward pass. Under `vmap` all samples step until the last has ended, and those
    that have are held as they were."""
    state, timesteps = jax.lax.while_loop(
        lambda carry: ~ended(dynamics, *carry),
        lambda carry: (step(dynamics, nodes, carry[0]), carry[1] + 1),
        (start(dynamics, phase, mag), jnp.int32(0)),
    )
    return Passed(state, timesteps)


def trace(
    dynamics: Dynamics, nodes: Indices, phase: Int[Array, "i d"], mag: Int[Array, "i d"]
) -> tuple[Passed, Activation]:
    """The same by a scan over all timesteps that there may be, and the state before each."""

    def one(carry: Passed, _: None) -> tuple[Passed, Activation]:
        done = ended(dynamics, *carry)
        new = Passed(step(dynamics, nodes, carry.state), carry.timesteps + 1)
        return jax.tree.map(lambda a, b: jnp.where(done, a, b), carry, new), carry.state

    carry = Passed(start(dynamics, phase, mag), jnp.int32(0))
    return jax.lax.scan(one, carry, length=dynamics.max_timesteps)
