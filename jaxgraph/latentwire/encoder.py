"""From a text's bytes to the wire (spec/latentwire.md, sections 2.2 to 2.4)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.latentwire.layers import Attention, PostNormStack, dense, gelu, norm, sinusoid


class Wire(struct.PyTreeNode):
    """Latents of a batch of texts."""

    shared: Any
    """[b m d]: what all models hear."""
    private: Any
    """[b m d] by the name of the model that alone hears it."""

    def of(self, name: str) -> Float[Array, "b m d"]:
        """All that one model hears."""
        return jnp.concatenate([self.shared, self.private[name]], axis=1)


class ByteEncoder(nn.Module):
    """Bidirectional transformer over bytes."""

    width: int
    layers: int
    heads: int
    ffn_ratio: int = 4

    @nn.compact
    def __call__(
        self, ids: Int[Array, "b t"], mask: Bool[Array, "b t"] | None = None
    ) -> Float[Array, "b t d"]:
        """`mask` hides padding from other bytes; what padding itself gives means nothing."""
        table = self.param("embedding", nn.initializers.normal(1.0), (256, self.width))
        x = jnp.take(table, jnp.clip(ids, 0, 255), axis=0)
        x = x + sinusoid(ids.shape[1], self.width)[None]
        stack = PostNormStack(self.width, self.heads, self.ffn_ratio, self.layers, name="stack")
        return stack(x, mask)


class Pooler(nn.Module):
    """Learned queries read a sequence; a gate mixes what they find with themselves."""

    width: int
    slots: int
    heads: int

    @nn.compact
    def __call__(
        self, features: Float[Array, "b t d"], mask: Bool[Array, "b t"] | None = None
    ) -> Float[Array, "b m d"]:
        d = self.width
        latent = self.param("latent", nn.initializers.normal(d**-0.5), (self.slots, d))
        query = jnp.broadcast_to(latent[None], (len(features), self.slots, d))
        read = query + Attention(d, self.heads, name="attention")(query, features, mask)
        gate = jax.nn.sigmoid(dense(d, d, "gate")(norm("gate_norm")(read)))
        mixed = gate * read + (1 - gate) * query
        h = dense(d, 2 * d, "up")(norm("mlp_norm")(mixed))
        return mixed + dense(2 * d, d, "down")(gelu(h))


class InterlinguaEncoder(nn.Module):
    """Bytes to shared slots and to private slots of each model; a part without slots is empty."""

    width: int
    layers: int
    heads: int
    shared_slots: int
    private_slots: int
    models: tuple[str, ...]
    ffn_ratio: int = 4

    @nn.compact
    def __call__(
        self, ids: Int[Array, "b t"], mask: Bool[Array, "b t"] | None = None
    ) -> Wire:
        """Without a mask padding is read as byte 0, as the original does (D6)."""
        backbone = ByteEncoder(self.width, self.layers, self.heads, self.ffn_ratio, name="backbone")
        features = backbone(ids, mask)

        def pool(slots, name):
            if not slots:
                return jnp.zeros((len(ids), 0, self.width))
            return Pooler(self.width, slots, self.heads, name=name)(features, mask)

        private = {name: pool(self.private_slots, f"private_{name}") for name in self.models}
        return Wire(pool(self.shared_slots, "shared_pooler"), private)
