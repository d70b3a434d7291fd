"""Dropout as a layer."""

import flax.linen as nn
from jaxtyping import Array, Float

from jaxgraph.nn.dropout import dropout


class Dropout(nn.Module):
    """Zeroes a share of the activations in training, and scales the others so that means stay."""

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "b ..."], train: bool) -> Float[Array, "b ..."]:
        key = self.make_rng("dropout") if train and self.rate else None
        return dropout(x, self.rate, key)
