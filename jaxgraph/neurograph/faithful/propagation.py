"""The forward pass: messages, one of which a node takes in each timestep, until an output is active
(spec/neurograph.md, section 8.3).

Of several messages to a node the original keeps the last of its list: radiation comes behind static
edges, and a higher source behind a lower one. So the winner is the message of the highest rank,
`source` on a static edge and `n + source` by radiation.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxgraph.neurograph.faithful.activation import (
    Activation,
    decay_and_prune,
    inject,
    inject_inputs,
)
from jaxgraph.neurograph.faithful.cell import CellOut, Indices, cell
from jaxgraph.neurograph.faithful.radiation import neighbours
from jaxgraph.neurograph.faithful.topology import Topology
from jaxgraph.neurograph.tables import Tables


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


def radiation_messages(dynamics: Dynamics, nodes: Indices, state: Activation) -> Messages:
    """To the neighbours of each node, ``[n, k]``."""
    count, topology = dynamics.topology.nodes, dynamics.topology
    target = neighbours(
        dynamics.tables, state.phase, nodes.phase, topology.excluded, dynamics.top_k
    )
    source = jnp.broadcast_to(jnp.arange(count)[:, None], target.shape)
    valid = state.mask[:, None] & (target < count)
    return _messages(dynamics, nodes, state, source, jnp.minimum(target, count - 1), valid)


def _messages(
    dynamics: Dynamics, nodes: Indices, state: Activation, source: Array, target: Array, valid: Array
) -> Messages:
    content = cell(
        dynamics.tables, state.phase[source], state.mag[source],
        nodes.phase[target], nodes.mag[target],
    )  # fmt: skip
    return Messages(source, target, valid, valid & (content.strength > 0), content)


def winners(dynamics: Dynamics, nodes: Indices, state: Activation) -> Int[Array, " n"]:
    """The rank of the message that each node takes; -1 where it gets none."""
    count = dynamics.topology.nodes
    lists = [(static_messages(dynamics, nodes, state), 0)]
    if dynamics.top_k:
        lists.append((radiation_messages(dynamics, nodes, state), count))
    best = jnp.full(count, -1, jnp.int32)
    for messages, offset in lists:
        rank = jnp.where(messages.kept, offset + messages.source, -1)
        best = best.at[messages.target.ravel()].max(rank.ravel())
    return best


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
