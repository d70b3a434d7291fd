"""The language model: embeddings, layers of coupled experts, output norm, vocabulary head."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from jaxgraph.moe.config import Model
from jaxgraph.moe.experts import NORMAL, norm
from jaxgraph.moe.ghosts import GhostState, init_ghosts
from jaxgraph.moe.layer import Layer, LayerCache, LayerOutput
from jaxgraph.moe.rotator import Rotator
from jaxgraph.nn.attention import causal_mask
from jaxgraph.nn.dropout import dropout


class Output(struct.PyTreeNode):
    """What `LanguageModel` returns."""

    embedded: Any
    """[b, t, d]"""
    streams: tuple
    """[b, t, d] each: what the layers read."""
    layers: tuple[LayerOutput, ...]
    hidden: Any
    """[b, t, d], after the output norm: what the head reads."""
    ghosts: GhostState | None
    """Levels in use; changed by this call only with timing `forward`."""


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
        if config.presents:
            self.rotator = Rotator(config.views, config.num_experts, config.width, name="rotator")
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
        view: Int[Array, ""] | None = None,
    ) -> Output:
        """Runs all layers up to the output norm; `logits` or a chunked loss follows.

        Args:
          tokens: ids; at most `max_seq_len` a row.
          ghosts: state of the ghosts; None means all asleep.
          attention_mask: `[b, t]`, nonzero where a token may be read by later ones.
          train: dropout on (needs a `dropout` rng).
          cache: keys and values so far; then `tokens` is one column, standing at `position`.
          keep_cache: return keys and values in `layers[i].cache`.
          view: show the network this expert's presentation of the token embeddings (train_mode
            `geometric`), which then get no gradient, as in the seed.
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

        embedded = self.token_embedding(tokens)
        if view is not None:
            embedded = self.rotator(jax.lax.stop_gradient(embedded), view)
        embedded = embedded + self.position_embedding(positions)[None]
        key = self.make_rng("dropout") if train and config.dropout else None
        x = dropout(embedded, config.dropout, key)
        streams, layers = [], []
        for i, layer in enumerate(self.stack):
            state = (None, None) if ghosts is None else (ghosts.levels[i], ghosts.phase[i])
            streams.append(x)
            layers.append(
                layer(x, mask, *state, cache and cache[i], position, train, keep_cache)
            )
            x = layers[-1].hidden
        if ghosts is not None:
            ghosts = ghosts.replace(
                levels=jnp.stack([out.levels for out in layers]),
                phase=jnp.stack([out.phase for out in layers]),
            )
        return Output(embedded, tuple(streams), tuple(layers), self.output_norm(x), ghosts)

    def logits(self, hidden: Float[Array, "b t d"]) -> Float[Array, "b t v"]:
        """Vocabulary scores in float32; all of them at once, so only for short inputs."""
        kernel, bias = self.head()
        scores = jnp.einsum(
            "btd,dv->btv", hidden, kernel.astype(hidden.dtype), preferred_element_type=jnp.float32
        )
        return scores + bias[None, None]

    def init_all(self, tokens: Int[Array, "b t"]) -> Float[Array, "b t v"]:
        """Touches every parameter: the method to initialise with."""
        view = jnp.zeros((), jnp.int32) if self.config.presents else None
        return self.logits(self(tokens, view=view).hidden)


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
