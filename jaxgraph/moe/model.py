"""The language model: embeddings, layers of coupled experts, output norm, vocabulary head."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.moe.config import Model
from jaxgraph.moe.experts import NORMAL, KeyValues, init_bank, make_block, norm, run_bank
from jaxgraph.moe.ghosts import (
    GhostState,
    Moments,
    init_ghosts,
    measure_original,
    original_scores,
    saturation,
    wake,
)
from jaxgraph.moe.hypergraph import Coupler, pool_original, pool_weighted, trace_original
from jaxgraph.moe.pairwise import PairwiseCoupler, pool_pairwise
from jaxgraph.moe.triple import TripleCoupler, pool_triple
from jaxgraph.nn.attention import causal_mask

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

    input: Any
    """[b, t, d]"""
    outputs: Any
    """[n, b, t, d]: block outputs, residual included; primaries first."""
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


class Output(struct.PyTreeNode):
    """What `LanguageModel` returns."""

    embedded: Any
    """[b, t, d]"""
    layers: tuple[LayerOutput, ...]
    hidden: Any
    """[b, t, d], after the output norm: what the head reads."""
    ghosts: GhostState | None
    """Levels in use; changed by this call only with timing `forward`."""


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

        def bank(name, count):
            params = self.param(name, init_bank, block, count, config.width)
            key = self.make_rng("dropout") if train and config.dropout else None

            def run(levels=None, cache=None):
                return run_bank(
                    block, params, x, mask, train=train, dropout_key=key, levels=levels,
                    loop=config.expert_loop, cache=cache, position=position, keep_cache=keep_cache,
                )

            return run

        pool, finish, trace = self._coupling(x.dtype)
        primaries, kept = bank("experts", config.num_experts)(cache=cache and cache.experts)
        if not config.ghosts.count:
            pooled = pool(primaries, jnp.ones(config.num_experts))
            hidden, coupled = finish(x, pooled)
            new_cache = LayerCache(kept, None) if keep_cache else None
            return LayerOutput(
                x, primaries, trace(primaries), coupled, hidden, None, None, None, new_cache
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
            ghosts, kept = run_ghosts(levels, cache and cache.ghosts)
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
            x, jnp.concatenate([primaries, ghosts]), trace(primaries), coupled, hidden, moments,
            levels, phase, new_cache,
        )

    def _coupling(self, dtype):
        """How nodes are pooled, how that joins the stream, and the nodes for inspection.

        The pooling takes the features of all nodes, or of the primaries alone when all ghosts sleep,
        and the levels of all nodes.
        """
        config, strategy = self.config, self.config.hypergraph.strategy
        if not config.coupled:

            def mean(features, levels):
                if config.ghosts.mixing == "original":
                    return features.sum(0) / config.num_nodes
                share = (levels / levels.sum())[: len(features)].astype(dtype)
                return jnp.einsum("n,nbtd->btd", share, features)

            return mean, lambda x, pooled: (x + pooled, None), lambda primaries: ()

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


class LanguageModel(nn.Module):
    """Decoder-only language model of the seed system GNN-MoE-2 (spec/moe.md, section 3)."""

    config: Model

    def setup(self):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        embed = lambda size, name: nn.Embed(  # noqa: E731
            size, config.width, dtype=dtype, embedding_init=NORMAL, name=name
        )
        self.token_embedding = embed(config.vocab_size, "token_embedding")
        self.position_embedding = embed(config.max_seq_len, "position_embedding")
        self.dropout = nn.Dropout(config.dropout)
        layer = nn.remat(Layer, static_argnums=(7, 8)) if config.remat else Layer
        self.stack = [layer(config, name=f"layer_{i}") for i in range(config.num_layers)]
        self.output_norm = norm("output_norm", dtype)
        self.head = Head(config.width, config.vocab_size, name="head")

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        ghosts: GhostState | None = None,
        attention_mask: Any = None,
        *,
        train: bool = False,
        cache: tuple[LayerCache, ...] | None = None,
        position: Int[Array, ""] | None = None,
        keep_cache: bool = False,
    ) -> Output:
        """Runs all layers up to the output norm; `logits` or a chunked loss follows.

        Args:
          tokens: ids; at most `max_seq_len` a row.
          ghosts: state of the ghosts; None means all asleep.
          attention_mask: `[b, t]`, nonzero where a token may be read by later ones.
          train: dropout on (needs a `dropout` rng).
          cache: keys and values so far; then `tokens` is one column, standing at `position`.
          keep_cache: return keys and values in `layers[i].cache`.
        """
        config = self.config
        length = tokens.shape[1]
        if length > config.max_seq_len:
            raise ValueError(f"{length} tokens a row, above max_seq_len {config.max_seq_len}")
        if config.ghosts.count and ghosts is None:
            ghosts = init_ghosts(config)
        if cache is None:
            positions, mask = jnp.arange(length), causal_mask(length)
            if attention_mask is not None:
                mask = mask & (jnp.asarray(attention_mask) != 0)[:, None, None, :]
        else:
            positions = position[None]
            slots = cache[0].experts.key.shape[2]
            mask = (jnp.arange(slots) <= position)[None, None, None, :]

        embedded = self.token_embedding(tokens) + self.position_embedding(positions)[None]
        x = self.dropout(embedded, deterministic=not train)
        layers = []
        for i, layer in enumerate(self.stack):
            state = (None, None) if ghosts is None else (ghosts.levels[i], ghosts.phase[i])
            layers.append(
                layer(x, mask, *state, cache and cache[i], position, train, keep_cache)
            )
            x = layers[-1].hidden
        if ghosts is not None:
            ghosts = ghosts.replace(
                levels=jnp.stack([out.levels for out in layers]),
                phase=jnp.stack([out.phase for out in layers]),
            )
        return Output(embedded, tuple(layers), self.output_norm(x), ghosts)

    def logits(self, hidden: Float[Array, "b t d"]) -> Float[Array, "b t v"]:
        """Vocabulary scores in float32; all of them at once, so only for short inputs."""
        kernel, bias = self.head()
        scores = jnp.einsum(
            "btd,dv->btv", hidden, kernel.astype(hidden.dtype), preferred_element_type=jnp.float32
        )
        return scores + bias[None, None]

    def init_all(self, tokens: Int[Array, "b t"]) -> Float[Array, "b t v"]:
        """Touches every parameter: the method to initialise with."""
        return self.logits(self(tokens).hidden)


class Head(nn.Module):
    """Parameters of the vocabulary head, not tied to the embedding."""

    width: int
    vocab_size: int

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "d v"], Float[Array, " v"]]:
        kernel = self.param("kernel", NORMAL, (self.width, self.vocab_size))
        return kernel, self.param("bias", nn.initializers.zeros, (self.vocab_size,))


def init_params(model: LanguageModel, key: Any) -> Any:
    """Parameters of a model, as the nested dict that `model.apply` takes under "params"."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    return model.init(key, tokens, method="init_all")["params"]
