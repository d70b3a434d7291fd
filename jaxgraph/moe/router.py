"""The router: which experts serve a token, and with what share.

No seed has one. Top-k gates follow Shazeer et al. (2017) and GShard (Lepikhin et al., 2020), but
without a capacity: every token gets its k experts, whatever the load.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from jaxgraph.moe.experts import NORMAL


class Routing(struct.PyTreeNode):
    """A layer's choice for each token."""

    logits: Any
    """[b, t, n] float32, the logarithm of the node's level included; -inf for sleeping ghosts."""
    chosen: Any
    """[b, t, k] int32: nodes, the likeliest first; of equal ones the lowest."""
    gates: Any
    """[b, t, k] float32: the chosen nodes' probabilities over their sum."""
    levels: Any
    """[n]: 1 for primaries, then the ghosts'."""

    @property
    def probabilities(self) -> Float[Array, "b t n"]:
        """Softmax over all nodes."""
        return jax.nn.softmax(self.logits)

    @property
    def served(self) -> Float[Array, "b t n"]:
        """1 where a node serves a token, else 0."""
        return jax.nn.one_hot(self.chosen, len(self.levels)).sum(-2)

    @property
    def shares(self) -> Float[Array, "b t n"]:
        """The gates, 0 for nodes that were not chosen; they sum to 1."""
        return jnp.einsum(
            "btk,btkn->btn", self.gates, jax.nn.one_hot(self.chosen, len(self.levels))
        )


def normalise(x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """LayerNorm without parameters, in float32."""
    x = x.astype(jnp.float32)
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)


def choose(
    logits: Float[Array, "b t n"], levels: Float[Array, " n"], top_k: int
) -> Routing:
    """The `top_k` likeliest nodes of each token; level 0.5 halves a node's odds."""
    awake = levels > 0
    prior = jnp.where(awake, jnp.log(jnp.where(awake, levels, 1)), -jnp.inf)
    logits = logits + prior[None, None]
    # Ranked by logits: probabilities can round to ties that logits do not have.
    best, chosen = jax.lax.top_k(logits, top_k)
    return Routing(logits, chosen, jax.nn.softmax(best), levels)


class TopKRouter(nn.Module):
    """Linear map of the normed layer input, in float32 whatever the type of the computation.

    The norm is the router's own and has no parameters: the map behind it would absorb them.
    """

    top_k: int
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"], levels: Float[Array, " n"]) -> Routing:
        kernel = self.param("kernel", NORMAL, (self.width, len(levels)))
        logits = jnp.einsum("btd,dn->btn", normalise(x), kernel, precision="highest")
        return choose(logits, levels, self.top_k)


def mix(routing: Routing, features: Float[Array, "n b t d"]) -> Float[Array, "b t d"]:
    """Σ gate · block output over the chosen nodes; `features` may lack sleeping ghosts."""
    shares = routing.shares[..., : len(features)].astype(features.dtype)
    return jnp.einsum("btn,nbtd->btd", shares, features)
