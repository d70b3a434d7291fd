"""What experts do, measured on the device while training: nothing here is a constant (D16).

All are means over real tokens, or depend on parameters and levels only, so they average exactly
over micro-batches and devices.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgraph.moe.config import Model
from jaxgraph.moe.connections import CONNECTIONS
from jaxgraph.moe.geometric import size_shares, specialization, token_mean
from jaxgraph.moe.layer import LayerOutput
from jaxgraph.moe.orthogonality import unit
from jaxgraph.moe.rotation import make_turns

Metrics = dict[str, Array]

MAX_ENTRIES = 16 * 16
"""Tables with more entries a layer (nodes x nodes, experts x angles) are not logged."""
SYMMETRIC = ("experts/similarity", "hypergraph/connection")


def measured(
    due: Bool[Array, ""],
    layers: tuple[LayerOutput, ...],
    params: Any,
    config: Model,
    mask: Float[Array, "b t"],
) -> Metrics:
    """Scalars `diagnostics/group/name/layer_i/entry` of all layers; NaN and no work unless `due`.

    Entries are nodes, primaries first (`2`), or pairs of nodes, or expert and angle (`0-3`).
    """
    metrics, nodes = {}, config.num_nodes
    if config.coupled and config.hypergraph.operator == "original":
        nodes = config.num_experts  # its ghosts are not computed, unless somebody reads them
    for i, layer in enumerate(layers):
        own = {
            name: params[f"layer_{i}"][name]
            for name in ("coupler", "rotation")
            if name in params[f"layer_{i}"]
        }
        shares = None if layer.routing is None else jnp.moveaxis(layer.routing.shares, -1, 0)
        seen = layer.outputs[:nodes], layer.origins, layer.angles, layer.levels, shares
        args = jax.lax.stop_gradient((seen, own, mask))
        metrics |= _scalars(due, lambda *a: measure_layer(*a, config), args, f"layer_{i}")
    return metrics


def measure_layer(
    seen: tuple, params: Any, mask: Float[Array, "b t"], config: Model
) -> dict[str, Array]:
    """Tables of one layer.

    experts/load: each node's share of the sizes of the updates, times levels or, with a router,
      the token's gates; mean over tokens.
    experts/entropy: entropy of a token's shares, over that of equal ones: 1 where all awake nodes
      serve each token alike.
    experts/specialization: as the loss defines it, over all awake nodes (`geometric.routed_terms`).
    experts/similarity: cosine between the updates of two nodes, mean over tokens; NaN with one that
      sleeps. Not with a router: nodes that serve a token together are few.
    hypergraph/connection: see `connections`; hypergraph/listening: of the directed `pairwise`.
    rotation/angle: mean angle in use of each primary, in radians.
    ghosts/level: of each ghost, in use.

    Args:
      seen: outputs, origins, angles and levels of a `LayerOutput`; and `[n, b, t]`, each node's
        share of a token where there is a router.
      params: the layer's coupler and rotation, where it has them.
    """
    outputs, origins, angles, ghosts, gates = seen
    levels = jnp.ones(config.num_experts)
    if ghosts is not None:
        levels = jnp.concatenate([levels, ghosts])
    operator = config.hypergraph.operator if config.coupled else None
    tables = {}
    if operator in CONNECTIONS:
        name = "listening" if operator == "pairwise" else "connection"
        tables[f"hypergraph/{name}"] = CONNECTIONS[operator](params["coupler"], config, levels)
    levels = levels[: len(outputs)]
    updates = node_updates(outputs, origins, angles, levels, params, config)
    sizes = jnp.linalg.norm(updates, axis=-1)
    sizes = sizes * (levels[:, None, None] if gates is None else gates)
    shares, awake = size_shares(sizes), jnp.sum(levels > 0)
    entropy = -jnp.sum(jnp.where(shares > 0, shares * jnp.log(shares), 0), 0)
    tables["experts/load"] = jax.vmap(lambda share: token_mean(share, mask))(shares)
    if len(levels) > 1:
        several = jnp.maximum(awake, 2)
        tables["experts/entropy"] = token_mean(entropy, mask) / jnp.log(several)
        tables["experts/specialization"] = specialization(shares, mask, several)
    if len(levels) > 1 and gates is None:
        asleep = (levels[:, None] == 0) | (levels[None, :] == 0)
        units = unit(updates)
        cosine = jnp.einsum("nbtd,mbtd,bt->nm", units, units, mask / jnp.maximum(mask.sum(), 1))
        tables["experts/similarity"] = jnp.where(asleep, jnp.nan, cosine)
    if angles is not None:
        tables["rotation/angle"] = jax.vmap(
            jax.vmap(lambda angle: token_mean(angle, mask), -1)
        )(angles)
    if ghosts is not None:
        tables["ghosts/level"] = ghosts
    return tables


def node_updates(
    outputs: Float[Array, "n b t d"],
    origins: Float[Array, "p b t d"],
    angles: Any,
    levels: Float[Array, " n"],
    params: Any,
    config: Model,
) -> Float[Array, "n b t d"]:
    """What each node adds to what it reads, ghosts included; undefined where one sleeps."""
    count = config.num_experts
    outputs, origins = outputs.astype(jnp.float32), origins.astype(jnp.float32)
    if len(outputs) > count and config.ghosts.mixing == "original":
        # There, a ghost's output is that of its block times its level.
        outputs = outputs / jnp.where(levels > 0, levels, 1)[:, None, None, None]
    if len(outputs) > count and len(origins) > 1:
        # Every node reads in a frame of its own: back into the common one, then into the ghosts'.
        turns = make_turns(config.rotation, params["rotation"])
        first = jax.tree.map(lambda x: x[0], turns)
        common = first.rotate(origins[0], -angles[0])
        ghosts = jax.tree.map(lambda x: x[count:], turns)
        own = jax.vmap(lambda turn: turn.origin(common))(ghosts)
        origins = jnp.concatenate([origins, own])
    return outputs - origins


def _scalars(due: Bool[Array, ""], run: Any, args: tuple, where: str) -> Metrics:
    """Entries of the tables that `run` makes, computed only if `due`.

    One vector leaves the branch, which is cheaper than as many scalars.
    """
    names, places = [], {}
    for name, table in jax.eval_shape(run, *args).items():
        if len(table.shape) == 2 and table.size > MAX_ENTRIES:
            continue
        entries = [at for at in np.ndindex(*table.shape) if _is_logged(name, at)]
        places[name] = [np.ravel_multi_index(at, table.shape) if at else 0 for at in entries]
        names += [
            "/".join(["diagnostics", name, where, *(["-".join(map(str, at))] if at else [])])
            for at in entries
        ]

    def flat(*args):
        tables = run(*args)
        return jnp.concatenate([
            tables[name].reshape(-1)[np.array(at, int)] for name, at in places.items()
        ])

    nothing = jnp.full(len(names), jnp.nan)
    values = jax.lax.cond(due, flat, lambda *_: nothing, *args)
    return {name: values[j] for j, name in enumerate(names)}


def _is_logged(name: str, at: tuple[int, ...]) -> bool:
    if name in SYMMETRIC:
        return at[0] < at[1]
    return name != "hypergraph/listening" or at[0] != at[1]
