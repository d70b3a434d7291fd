"""One layer: experts side by side, coupled, with ghosts and turns."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.moe.config import Model
from jaxgraph.moe.experts import KeyValues, init_bank, make_block, run_bank
from jaxgraph.moe.ghosts import Moments, measure_original, original_scores, saturation, wake
from jaxgraph.moe.grouped import run_grouped, should_group
from jaxgraph.moe.hypergraph import Coupler, pool_original, pool_weighted, trace_original
from jaxgraph.moe.pairwise import PairwiseCoupler, pool_pairwise
from jaxgraph.moe.rotation import Turn, Turns, make_turns
from jaxgraph.moe.router import Routing, TopKRouter, mix
from jaxgraph.moe.triple import TripleCoupler, pool_triple

COUPLERS = {
    "weighted": Coupler,
    "original": Coupler,
    "pairwise": PairwiseCoupler,
    "triple": TripleCoupler,
}


class LayerCache(struct.PyTreeNode):
    """Keys and values of a layer's experts and ghosts, each `[e, b, s, h, k]`."""

    experts: KeyValues
    ghosts: KeyValues | None


class LayerOutput(struct.PyTreeNode):
    """Everything a layer computes; whoever jits pays only for what is read."""

    outputs: Any
    """[n, b, t, d]: block outputs, residual included; primaries first."""
    origins: Any
    """[p, b, t, d] or [1, b, t, d]: what the primaries' updates are added to; the layer's input, or
    what becomes of it in front of each expert when turns are not undone."""
    angles: Any
    """[p, b, t, r] or [p, 1, 1, r]: the primaries' turns; None without."""
    convolutions: tuple
    """[b, t, n, d] each: nodes after each convolution of the seed's operator; empty with ours."""
    coupled: Any
    """[b, t, d]: what the coupler adds; None without coupling."""
    hidden: Any
    """[b, t, d]: the layer's output."""
    moments: Moments | None
    """For the seed's saturation statistic."""
    levels: Any
    """[g], in use in this call; None without ghosts, as is `phase`."""
    phase: Any
    cache: LayerCache | None
    routing: Routing | None = None
    """Which experts served which token; None without a router. Where `grouped`, `outputs` are the
    layer's input for experts that did not."""


class Layer(nn.Module):
    """x + couple(experts(x)), ghosts included by their levels."""

    config: Model

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        mask: Bool[Array, "#b 1 #t s"],
        levels: Float[Array, " g"] | None,
        phase: Int[Array, " g"] | None,
        cache: LayerCache | None,
        position: Int[Array, ""] | None,
        train: bool,
        keep_cache: bool,
    ) -> LayerOutput:
        config, block = self.config, make_block(self.config)
        node_turns = self._node_turns()

        def bank(name, count):
            params = self.param(name, init_bank, block, count, config.width)
            key = self.make_rng("dropout") if train and config.dropout else None

            def run(turns, levels=None, cache=None):
                if grouped:
                    return run_grouped(
                        block, params, x, mask, routing.served, config.router.top_k,
                        dropout_key=key, loop=config.expert_loop, keep_cache=keep_cache,
                    )
                return run_bank(
                    block, params, x, mask, train=train, dropout_key=key, levels=levels,
                    loop=config.expert_loop, cache=cache, position=position, keep_cache=keep_cache,
                    turns=turns,
                )

            return run

        routing = self._routing(x, levels)
        grouped = routing is not None and should_group(
            config, train=train, decoding=cache is not None
        )
        pool, finish, trace = self._coupling(x.dtype, routing)
        turns = node_turns(slice(config.num_experts))
        origins, angles = _origins(turns, x), None
        if turns is not None:
            angles = jax.vmap(lambda turn: turn.angles(x))(turns)
        primaries, kept = bank("experts", config.num_experts)(turns, cache=cache and cache.experts)
        if not config.ghosts.count:
            pooled = pool(primaries, jnp.ones(config.num_experts))
            hidden, coupled = finish(x, pooled)
            new_cache = LayerCache(kept, None) if keep_cache else None
            return LayerOutput(
                primaries, origins, angles, trace(primaries), coupled, hidden, None, None, None,
                new_cache, routing,
            )

        moments = None
        if config.ghosts.statistic == "original":
            moments = jax.lax.stop_gradient(measure_original(primaries, x))
        if config.ghosts.timing == "forward":
            trigger = saturation(original_scores(moments)) > config.ghosts.threshold
            levels, phase = wake(levels, phase, trigger, config.ghosts)
        weights = jnp.concatenate([jnp.ones(config.num_experts), levels])
        run_ghosts = bank("ghosts", config.ghosts.count)

        def with_ghosts(primaries):
            # Made in here, so that sleeping ghosts need none.
            turns = node_turns(slice(config.num_experts, None))
            ghosts, kept = run_ghosts(turns, levels, cache and cache.ghosts)
            if config.ghosts.mixing == "original":
                ghosts = ghosts * levels[:, None, None, None].astype(ghosts.dtype)
            return ghosts, kept, pool(jnp.concatenate([primaries, ghosts]), weights)

        shapes = jax.eval_shape(with_ghosts, primaries)

        def without(primaries):
            nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes[:2])
            return *nothing, pool(primaries, weights)

        # Without remat the branch would hand its activations to the backward pass, and the sleeping
        # side would have to fill as many zeros.
        ghosts, ghosts_kept, pooled = jax.lax.cond(
            levels.any(), jax.checkpoint(with_ghosts), without, primaries
        )
        hidden, coupled = finish(x, pooled)
        new_cache = LayerCache(kept, ghosts_kept) if keep_cache else None
        return LayerOutput(
            jnp.concatenate([primaries, ghosts]), origins, angles, trace(primaries), coupled,
            hidden, moments, levels, phase, new_cache, routing,
        )

    def _routing(self, x, levels):
        """Which experts serve which token; None without a router."""
        config = self.config
        if not config.router.top_k:
            return None
        primaries = jnp.ones(config.num_experts)
        nodes = primaries if levels is None else jnp.concatenate([primaries, levels])
        return TopKRouter(config.router.top_k, config.width, name="router")(x, nodes)

    def _node_turns(self):
        """A function from a slice of the nodes to their turns, or to None in other modes."""
        config = self.config
        if not config.routed:
            return lambda nodes: None
        free = Turns(config.rotation, config.num_nodes, config.width, name="rotation")()
        return lambda nodes: make_turns(
            config.rotation, {name: param[nodes] for name, param in free.items()}
        )

    def _coupling(self, dtype, routing):
        """How nodes are pooled, how that joins the stream, and the nodes for inspection.

        The pooling takes the features of all nodes, or of the primaries alone when all ghosts
        sleep, and the levels of all nodes.
        """
        config, strategy = self.config, self.config.hypergraph.strategy
        uncoupled = lambda x, pooled: (x + pooled, None), lambda primaries: ()
        if routing is not None:
            return lambda features, _: mix(routing, features), *uncoupled
        if not config.coupled:

            def mean(features, levels):
                if config.ghosts.mixing == "original":
                    return features.sum(0) / config.num_nodes
                share = (levels / levels.sum())[: len(features)].astype(dtype)
                return jnp.einsum("n,nbtd->btd", share, features)

            return mean, *uncoupled

        operator = config.hypergraph.operator
        coupler = COUPLERS[operator](
            config.hypergraph, config.num_experts, config.num_nodes, config.width, dtype,
            name="coupler",
        )
        coupling = coupler.coupling()

        def finish(x, pooled):
            coupled = coupler(pooled)
            return x + coupled, coupled

        if operator != "original":
            pool = {
                "weighted": partial(pool_weighted, coupling, strategy),
                "pairwise": partial(pool_pairwise, coupling),
                "triple": partial(pool_triple, coupling),
            }[operator]
            return pool, finish, lambda primaries: ()
        count, nodes = config.num_experts, config.num_nodes
        return (
            lambda features, _: pool_original(coupling, strategy, features[:count], nodes),
            finish,
            lambda primaries: trace_original(coupling, strategy, primaries, nodes),
        )


def expert_updates(layer: LayerOutput, config: Model) -> Float[Array, "p b t d"]:
    """What each primary expert adds to what it reads."""
    return layer.outputs[: config.num_experts] - layer.origins


def _origins(turns: Turn | None, x: Float[Array, "b t d"]) -> Float[Array, "p b t d"]:
    if turns is None or turns.config.undo:
        return x[None]
    return jax.vmap(lambda turn: turn.origin(x))(turns)
