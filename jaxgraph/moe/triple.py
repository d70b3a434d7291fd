"""Triple coupling: one hypergraph of primaries, one of ghosts, one of both (spec/moe.md, 8).

Topology follows activation: with all ghosts asleep only the primaries' hypergraph exists; the first
ghost brings the mixed one, the second the ghosts' own.
"""

from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key

from jaxgraph.moe.config import Hypergraph
from jaxgraph.moe.hypergraph import Coupler

PARTS = ("primary", "ghost", "mixed")


class Triple(struct.PyTreeNode):
    """Three couplers, to be called as pure functions: a sleeping branch must not run them."""

    modules: dict[str, Coupler] = struct.field(pytree_node=False)
    params: dict[str, Any]
    mix: Any
    """[3] logits of the parts' shares."""


class TripleCoupler(nn.Module):
    """Holds the parameters; `pool_triple` does all the work, read-out and norm included."""

    config: Hypergraph
    num_primary: int
    num_nodes: int
    width: int
    dtype: Any

    def setup(self):
        config = replace(self.config, operator="weighted")
        counts = (self.num_primary, self.num_nodes - self.num_primary, self.num_nodes)
        modules = {
            name: Coupler(config, count, count, self.width, self.dtype, parent=None)
            for name, count in zip(PARTS, counts, strict=True)
        }
        params = {name: self.param(name, _init_part, part) for name, part in modules.items()}
        self.triple = Triple(modules, params, self.param("mix", nn.initializers.zeros, (3,)))

    def coupling(self) -> Triple:
        """The parameters with which `pool_triple` works."""
        return self.triple

    def __call__(self, pooled: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        return pooled


def part_shares(mix: Float[Array, "3"], ghosts: Float[Array, " g"]) -> Float[Array, "3"]:
    """Shares of the parts: softmax over those that are present, as far as they are.

    The mixed part is as present as the most awake ghost, the ghosts' part as the second, for one
    alone has nobody to be coupled with. The seed lets parts appear at level 0.1 and gives the share
    of absent ones to nobody.
    """
    second, first = jnp.sort(ghosts)[-2:]
    share = jnp.exp(mix - mix.max()) * jnp.stack([jnp.ones(()), second, first])
    return share / share.sum()


def pool_triple(
    triple: Triple, features: Float[Array, "n b t d"], levels: Float[Array, " m"]
) -> Float[Array, "b t d"]:
    """Σ share_k · LN(gelu(W_k pool_k + b_k)) over the parts that are present.

    `levels` are those of all nodes; `features` may be of the primaries only, if all ghosts sleep:
    the result is the same.
    """
    count = triple.modules["primary"].num_primary

    def couple(name, features, levels):
        module, params = triple.modules[name], {"params": triple.params[name]}
        return module.apply(params, features, levels, method="couple")

    primary = couple("primary", features[:count], levels[:count])
    if len(features) == count:
        return primary
    share = part_shares(triple.mix, levels[count:]).astype(primary.dtype)
    # A mean over nobody is NaN, and its share of 0 would not make it vanish.
    ghosts = jnp.where(levels[count:].any(), levels[count:], 1.0)
    ghost = couple("ghost", features[count:], ghosts)
    mixed = couple("mixed", features, levels)
    return share[0] * primary + share[1] * ghost + share[2] * mixed


def _init_part(key: Key[Array, ""], part: Coupler) -> Any:
    nodes = jnp.zeros((part.num_nodes, 1, 1, part.width))
    return part.init(key, nodes, jnp.ones(part.num_nodes), method="couple")["params"]
