"""What is minimised, and how it changes over the run."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.fields import Count, Fraction, NonNegative, Positive, PositiveFloat


@dataclass(frozen=True)
class Curriculum:
    """What changes from the first step to the last (spec/latentwire.md, section 7)."""

    first_steps: Positive = 4
    """K: answer tokens in the K-token loss and in distillation, at the beginning."""
    last_steps: Positive = 4
    """K at the end."""
    first_keep: Fraction = 1.0
    """Share of shared slots that is not dropped, at the beginning."""
    last_keep: Fraction = 1.0
    """The same at the end."""
    warmup: Count = 0
    """Steps of which every other, from the first, is a text step: the soft prompt is pulled to the
    answer's embeddings, and the other losses weigh less, from 0.2 up."""
    first_token: Literal["constant", "warmup", "cosine"] = "constant"
    """Weight of the first token: as it is, rising over 200 steps, or from a peak of
    max(8, 2 weight) that is held for 40 % of the run and falls to the weight."""

    def problems(self) -> Iterator[tuple[str, str]]:
        for name in ("first_keep", "last_keep"):
            if not getattr(self, name):
                yield name, "0 drops the whole wire; allowed: above 0 to 1"


@dataclass(frozen=True)
class Losses:
    """Terms of the loss and their weights (spec/latentwire.md, section 6)."""

    alignment: Literal["aligned", "compat"] = "aligned"
    """`compat` scores each position with the token after the next, as the original does."""
    answer: NonNegative = 1.0
    """Of the loss over all tokens of the answer."""
    first: NonNegative = 0.5
    """Of the answer's first token."""
    autoscale: bool = True
    """Multiplies that weight by first / answer loss, between 1 and 8."""
    k_tokens: NonNegative = 0.5
    """Of the answer's first K tokens."""
    distil: NonNegative = 1.0
    """Of the divergence from the same model reading the text, over the first K tokens."""
    temperature: PositiveFloat = 2.0
    """Of distillation."""
    distil_cache: Count = 0
    """0 reads the text in every step. Otherwise it is read once, before the first step, and this
    many likeliest tokens of each place are kept; all others count as one."""
    entropy: NonNegative = 0.0
    """Rewards an undecided first token."""
    manifold: NonNegative = 0.0
    """Of the distance of the soft prompts' means and deviations from the embeddings'."""
    warmup_align: NonNegative = 1.0
    """In text steps: of the distance between first slots and the answer's embeddings."""
    warmup_align_tokens: Positive = 1
    """How many slots."""
    text: NonNegative = 0.0
    """In text steps: adds the model's loss behind the text itself, which has no gradient."""
    first_align: NonNegative = 0.0
    """Of the distance between the first slot and the first token's embedding."""
    first_align_metric: Literal["cosine", "mse", "both"] = "cosine"
    """How that distance is measured."""
    scale: NonNegative = 0.05
    """Of (adapter scale - 1)²."""
    raw_rms: NonNegative = 0.0
    """Of the squared distance of the soft prompt's strength before calibration from the
    embeddings'."""
    curriculum: Curriculum = Curriculum()

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.distil_cache and self.text:
            yield "distil_cache", f"{self.distil_cache} with text {self.text:g}; allowed: 0"
