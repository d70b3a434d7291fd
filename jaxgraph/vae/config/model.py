"""The architecture, the likelihood and the prior."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.fields import Count, Fraction, NonNegative, Positive, PositiveFloat


@dataclass(frozen=True)
class Likelihood:
    """What an observed coordinate is, given the decoder's logit."""

    kind: Literal["mixture", "bernoulli"] = "mixture"
    """`mixture`: 0 or 1 plus Gaussian noise. `bernoulli`: 0 or 1, no noise."""
    sigma: PositiveFloat = 0.05
    """Standard deviation of the noise, the same in the data and in the mixture's components."""


@dataclass(frozen=True)
class Prior:
    """The distribution of latents before any data."""

    kind: Literal["normal", "mixture"] = "normal"
    """`mixture`: the mean of the posteriors of learned pseudo-inputs (VampPrior), whose KL is
    estimated with one sample."""
    components: Positive = 500
    """Pseudo-inputs of the mixture."""


@dataclass(frozen=True)
class Model:
    """Architecture."""

    kind: Literal["real", "complex", "free_bits"] = "real"
    """`complex`: activations are pairs, and there are no norms. `free_bits`: the seed's third
    class, real with layers that may be 1 wide; its `objective.free_bits` was 0.05."""
    inputs: Count = 0
    """Coordinates of a data point; 0 takes the data's."""
    num_layers: Positive = 6
    """Sets the latent size, inputs / (num_layers + 1), and the widths on the way to it."""
    max_width: Positive = 768
    """Upper bound of the widths."""
    dropout: Fraction = 0.12
    """Share of activations zeroed in training."""
    activation: Literal["silu", "gelu", "softplus"] = "silu"
    """`complex` applies it to magnitudes."""
    layernorm: bool = True
    """LayerNorm behind each layer; `complex` has none either way, as in the seed."""
    clamp_logvar: NonNegative = 0.0
    """Keeps log-variances smoothly within plus or minus this; 0 leaves them unbounded, as in the
    seed, where 100 ends in an infinite KL."""
    likelihood: Likelihood = Likelihood()
    prior: Prior = Prior()

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.dropout == 1:
            yield "dropout", "1 leaves nothing; allowed: below 1"
