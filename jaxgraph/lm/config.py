"""What a model is (its file says so), and how it is computed and sampled (the user says so)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.fields import Count, Fraction, NonNegative, Positive, PositiveFloat


@dataclass(frozen=True)
class Architecture:
    """Sizes and constants of a decoder, read from config.json or a GGUF header."""

    vocab_size: Positive
    width: Positive
    """Of the residual stream."""
    layers: Positive
    heads: Positive
    kv_heads: Positive
    """Heads of keys and values; each serves heads / kv_heads query heads."""
    head_width: Positive
    ffn_width: Positive
    norm_eps: PositiveFloat = 1e-5
    rope_theta: PositiveFloat = 10000.0
    rope_divisors: tuple[float, ...] = ()
    """What each of the head_width / 2 rotary frequencies is divided by; empty leaves them."""
    tied: bool = False
    """The output head is the embedding table."""
    qkv_bias: bool = False
    """Biases on queries, keys and values (Qwen2)."""


@dataclass(frozen=True)
class Compute:
    """How a decoder is computed; the numbers agree to rounding."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of weights, activations and products. Softmax, norms, logits and losses are float32 either
    way."""
    remat: Literal["none", "layers", "dots"] = "none"
    """What the backward pass computes again instead of keeping: nothing, whole layers, or all but
    the products with weights."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn from logits, and when a row ends."""

    max_new_tokens: Positive = 16
    temperature: NonNegative = 0.0
    """0 takes the likeliest token."""
    top_p: Fraction = 1.0
    """Nucleus: the likeliest tokens whose probabilities sum up to at most this, always one."""
    first_temperature: NonNegative | None = None
    """Of the first token; null is as the others."""
    first_top_p: Fraction | None = None
    """Of the first token; null is as the others."""
    min_new_tokens: Count = 0
    """Stop ids are banned before so many tokens."""
    ban_stop_steps: Count = 0
    """Stop ids are banned in so many first steps; the larger of the two counts."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.min_new_tokens > self.max_new_tokens:
            yield "min_new_tokens", (
                f"{self.min_new_tokens} is more than max_new_tokens {self.max_new_tokens}"
            )
