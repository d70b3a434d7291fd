"""Encoders over the features of a frozen text encoder (spec/latentwire.md, sections 2.5, 2.6)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgraph.latentwire.layers import Attention, dense, norm, plain, sinusoid


class QueryEncoder(nn.Module):
    """Slots that read token features through two projections in a row (the original's STQuery)."""

    width: int
    slots: int
    features: int
    heads: int
    gated: bool = True
    slot_sinusoid: bool = True

    @nn.compact
    def __call__(
        self, features: Float[Array, "b t f"], mask: Bool[Array, "b t"] | None = None
    ) -> Float[Array, "b m d"]:
        f = self.features
        slots = self.param("query", nn.initializers.normal(0.02), (self.slots, f))
        if self.slot_sinusoid:
            slots = slots + sinusoid(self.slots, f)
        slots = jnp.broadcast_to(slots[None], (len(features), self.slots, f))
        query = plain(f, "query_projection")(slots)
        key, value = (plain(f, f"{name}_projection")(features) for name in ("key", "value"))
        out = query + Attention(f, self.heads, name="attention")(query, key, mask, value)
        if self.gated:
            gate = jax.nn.sigmoid(dense(f, f, "gate")(norm("gate_norm")(out)))
            out = gate * out + (1 - gate) * query
        out = plain(f, "out_projection")(out)
        return dense(f, self.width, "to_latent")(norm("latent_norm")(out))


class SimpleEncoder(nn.Module):
    """One vector of the whole text, added to each slot's own."""

    width: int
    slots: int
    features: int

    @nn.compact
    def __call__(self, features: Float[Array, "b f"]) -> Float[Array, "b m d"]:
        queries = self.param("queries", nn.initializers.normal(0.02), (self.slots, self.width))
        whole = dense(self.features, self.width, "projection")(features)
        return norm("norm")(queries[None] + whole[:, None])
