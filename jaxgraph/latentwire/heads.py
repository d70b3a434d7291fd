"""Optional modules beside the soft prompt (spec/latentwire.md, section 4)."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgraph.latentwire.layers import (
    PostNormStack,
    attend,
    dense,
    gelu,
    norm,
    plain,
)
from jaxgraph.lm.cache import KeyValues, past_of


def largest(x: Float[Array, "b m d"]) -> Float[Array, "b d"]:
    """Over slots; its gradient goes to one of them. That of `max` compares values that a compiler
    may have computed twice, and was NaN where they differed."""
    return jnp.take_along_axis(x, x.argmax(1, keepdims=True), axis=1)[:, 0]


POOLS = {"mean": lambda x: x.mean(1), "first": lambda x: x[:, 0], "max": largest}


class DeepPrefix(nn.Module):
    """Keys and values for every layer of a model, out of its soft prompt.

    They take the first places of the sequence, without rotation. In the original nothing of the
    soft prompt itself is fed beside them (D9).
    """

    width: int
    """Of the soft prompt."""
    slots: int
    """Slots of the soft prompt beyond these are left out, missing ones are zero."""
    layers: int
    kv_heads: int
    head_width: int

    @nn.compact
    def __call__(self, prompt: Float[Array, "b m e"]) -> KeyValues:
        missing = max(self.slots - prompt.shape[1], 0)
        x = jnp.pad(prompt[:, : self.slots], [(0, 0), (0, missing), (0, 0)])
        x = norm("norm")(x)
        x = x + plain(self.width, "residual")(x)
        shape = self.layers, self.width, self.kv_heads * self.head_width
        each_layer = nn.initializers.xavier_uniform(in_axis=1, out_axis=2, batch_axis=0)
        kernels = (self.param(f"{name}_kernel", each_layer, shape) for name in ("key", "value"))
        return past_of(*(_heads(jnp.einsum("bse,lek->lbsk", x, k), self.kv_heads) for k in kernels))


class Coprocessor(nn.Module):
    """A few key-value slots for every layer, out of a summary of the wire."""

    slots: int
    hidden: int
    kv_heads: tuple[int, ...]
    """Of each layer."""
    head_width: int
    scale: float = 0.8
    pool: Literal["mean", "first", "max"] = "mean"

    @nn.compact
    def __call__(
        self, z: Float[Array, "b m d"]
    ) -> list[tuple[Float[Array, "b g s k"], Float[Array, "b g s k"]]]:
        """Keys and values of each layer; `layered` makes a past of them where heads agree."""
        d, w = z.shape[-1], self.hidden
        x = POOLS[self.pool](norm("norm")(z))
        x = gelu(dense(w, w, "second")(gelu(dense(d, w, "first")(x))))
        x = dense(w, self.slots * w, "tokens")(x).reshape(len(z), self.slots, w)
        found = []
        for layer, heads in enumerate(self.kv_heads):
            pair = (
                plain(heads * self.head_width, f"{name}_{layer}")(x) * self.scale
                for name in ("key", "value")
            )
            found.append(tuple(_heads(one[None], heads)[0] for one in pair))
        return found


def layered(
    pairs: list[tuple[Float[Array, "b g s k"], Float[Array, "b g s k"]]],
) -> KeyValues:
    """Keys and values of all layers as one past."""
    return past_of(*(jnp.stack(each) for each in zip(*pairs, strict=True)))


def _heads(x: Float[Array, "l b s n"], heads: int) -> Float[Array, "l b g s k"]:
    return jnp.moveaxis(x.reshape(*x.shape[:3], heads, x.shape[3] // heads), 2, 3)


class LatentAdapter(nn.Module):
    """Lets a decoder layer's output read the wire: h + tanh(alpha) MLP(attention(h, z))."""

    width: int
    """Of the decoder."""
    latent: int
    """Of the wire."""
    heads: int = 8

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "b t e"],
        z: Float[Array, "b m d"],
        mask: Bool[Array, "b m"] | None = None,
    ) -> Float[Array, "b t e"]:
        e, d = self.width, self.latent
        alpha = self.param("alpha", nn.initializers.constant(0.5), ())
        query = dense(e, e, "query")(norm("norm")(h))
        read = attend(query, dense(d, e, "key")(z), dense(d, e, "value")(z), self.heads, mask)
        out = dense(4 * e, e, "down")(gelu(dense(e, 4 * e, "up")(read)))
        return h + jnp.tanh(alpha) * out


class Refiner(nn.Module):
    """Slots of one model talk to one another."""

    width: int
    layers: int
    heads: int = 4
    ffn_ratio: int = 4

    @nn.compact
    def __call__(
        self, z: Float[Array, "b m d"], mask: Bool[Array, "b m"] | None = None
    ) -> Float[Array, "b m d"]:
        """`mask` hides slots from others."""
        stack = PostNormStack(self.width, self.heads, self.ffn_ratio, self.layers, name="stack")
        return stack(z, mask)


class GistHead(nn.Module):
    """Guesses the embeddings of the text's first tokens from the wire."""

    width: int
    outputs: int
    targets: int
    """Tokens to guess."""
    hidden: int
    layers: int

    @nn.compact
    def __call__(self, z: Float[Array, "b m d"]) -> Float[Array, "b t e"]:
        d = self.width
        query = self.param("query", nn.initializers.normal(0.01), (self.targets, d))
        query = jnp.broadcast_to(query[None], (len(z), self.targets, d))
        x = attend(
            *(plain(d, name)(source) for name, source in (("q", query), ("k", z), ("v", z))), 1
        )
        for i in range(self.layers):
            h = gelu(dense(d, self.hidden, f"block_{i}_up")(norm(f"block_{i}_norm")(x)))
            x = x + dense(self.hidden, d, f"block_{i}_down")(h)
        return norm("out_norm")(dense(d, self.outputs, "out")(x))
