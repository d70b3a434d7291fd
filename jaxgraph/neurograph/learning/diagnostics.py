"""What is measured of a step now and then, on the device: gradients, steps, activity, alerts.

The original's diagnostics (spec/neurograph.md, section 15) with the same limits; its
"effectiveness", which does not know directions, is replaced by a cosine (defect D23).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgraph.neurograph.learning.fixed import Pairs
from jaxgraph.neurograph.learning.network import Network, Pass
from jaxgraph.nn import across

EXPLOSION, VANISHING, STAGNATION = 10.0, 1e-6, 1e-8
"""Norms of a gradient, and mean steps in bins, at which the original raises an alert."""
HISTOGRAM = 16
"""Bars of a histogram of phases."""
MOST_GROUPS = 64
"""Activities logged of a layer; of more nodes, means over neighbours."""
DIAGNOSTIC = "diagnostics/"

Metrics = dict[str, Array]


def measure(
    network: Network, params: Any, grads: Any, wanted: Any, steps: Any, found: Pass, mask: Array
) -> Metrics:
    """All of it.

    Args:
      grads: per bin.
      wanted: steps before rounding.
      steps: whole ones.
      found: the pass of the batch, whose padding `mask` leaves out.
    """
    metrics: Metrics = {}
    for name, pairs in params.items():
        layer = {"params": pairs, "grads": grads[name], "wanted": wanted[name],
                 "steps": steps[name]}  # fmt: skip
        metrics |= _layer(network, name, **layer)
    for layer, state in zip(network.layers, found.states, strict=False):
        metrics |= _activity(network, layer, state, mask)
    if found.sent is not None:
        sent = found.sent.sum((1, 2)) / found.sent.shape[1]
        sent, rows = across.total((jnp.sum(sent * mask), mask.sum()))
        metrics["radiation/receivers"] = sent / jnp.maximum(rows, 1)
    return {DIAGNOSTIC + name: value for name, value in metrics.items()}


def _layer(network: Network, name: str, params: Any, grads: Any, wanted: Any, steps: Any):
    norms = {
        kind: jnp.sqrt(sum(jnp.sum(getattr(pair, kind) ** 2) for pair in grads.values()))
        for kind in Pairs._fields
    }
    norm = jnp.sqrt(sum(value**2 for value in norms.values()))
    taken = _flat(steps)
    size, moved = jnp.mean(jnp.abs(taken)), jnp.mean(taken != 0)
    found = {f"grad_norm_{kind}/{name}": value for kind, value in norms.items()}
    found |= {
        f"step_bins/{name}": size,
        f"moved/{name}": moved,
        f"descent_cosine/{name}": _cosine(-_flat(grads), taken),
        f"rounding_cosine/{name}": _cosine(_flat(wanted), taken),
        f"alert_explosion/{name}": 1.0 * (norm > EXPLOSION),
        f"alert_vanishing/{name}": 1.0 * (norm < VANISHING),
        f"alert_stagnation/{name}": 1.0 * (size < STAGNATION),
    }
    phases = jnp.concatenate([pair.phase.ravel() for pair in params.values()]).astype(jnp.int32)
    bars = phases * HISTOGRAM // network.cell.phase_bins
    shares = jnp.mean(jax.nn.one_hot(bars, HISTOGRAM), axis=0)
    return found | {f"phases/{name}/{i}": shares[i] for i in range(HISTOGRAM)}


def _activity(network: Network, layer: Any, state: Float[Array, "b d"], mask: Array) -> Metrics:
    """Shares of samples in which nodes are active; those of no sample are called dead."""
    parts = state.reshape(len(state), network.parts, -1)
    active = jnp.any(parts != 0, axis=1) & (mask > 0)[:, None]
    active, rows = across.total((active.sum(0), mask.sum()))
    share = active / jnp.maximum(rows, 1)
    groups = share.reshape(-1, layer.width).mean(0)
    groups = groups[: len(groups) // MOST_GROUPS * MOST_GROUPS or None]
    groups = groups.reshape(min(len(groups), MOST_GROUPS), -1).mean(1)
    found = {
        f"active_share/{layer.name}": share.mean(),
        f"active_nodes/{layer.name}": share.sum(),
        f"dead_nodes/{layer.name}": jnp.sum(share == 0).astype(jnp.float32),
        f"never_silent/{layer.name}": jnp.sum(share == 1).astype(jnp.float32),
    }
    return found | {f"active/{layer.name}/{i}": groups[i] for i in range(len(groups))}


def _flat(tree: Any) -> Float[Array, " n"]:
    return jnp.concatenate([x.ravel().astype(jnp.float32) for x in jax.tree.leaves(tree)])


def _cosine(a: Float[Array, " n"], b: Float[Array, " n"]) -> Array:
    return jnp.vdot(a, b) / jnp.maximum(jnp.linalg.norm(a) * jnp.linalg.norm(b), 1e-30)
