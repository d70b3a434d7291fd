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


Distance = Literal["cosine", "mse", "both"]


@dataclass(frozen=True)
class Gist:
    """Guessing the embeddings of a text's first tokens from the wire (section 4)."""

    weight: NonNegative = 0.0
    """Of the mean squared error; 0 makes no head."""
    tokens: Positive = 48
    """Of the text, the anchor counts."""
    layers: Count = 2
    """Blocks of the head that guesses."""
    hidden: Positive = 512
    """Width within a block; no less than the wire's."""
    dropped: Fraction = 0.15
    """Share of tokens that are left out of a step at random."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.dropped == 1:
            yield "dropped", "1 leaves nothing to guess; allowed: 0 to below 1"


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
    states: NonNegative = 0.0
    """Of the squared distance of hidden states from those of the same model reading the text, over
    the first K tokens."""
    state_layers: tuple[Count, ...] = (0, 1, 2)
    """Layers whose states; 0 are the embeddings, which differ in front of the first token only."""
    state_alignment: Literal["aligned", "compat"] = "aligned"
    """`compat` takes the reader's states behind each token instead of in front of it, and those on
    padding too, as the original does."""
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
    first_align_metric: Distance = "cosine"
    """How that distance is measured."""
    answer_align: NonNegative = 0.0
    """Of the distance between first slots and the answer's embeddings, one by one, in all steps."""
    answer_align_metric: Distance = "cosine"
    """How that distance is measured."""
    scale: NonNegative = 0.05
    """Of (adapter scale - 1)²."""
    raw_rms: NonNegative = 0.0
    """Of the squared distance of the soft prompt's strength before calibration from the
    embeddings'."""
    gist: Gist = Gist()
    curriculum: Curriculum = Curriculum()

    @property
    def read_layers(self) -> tuple[int, ...]:
        """Layers whose states a step needs."""
        return self.state_layers if self.states else ()

    def problems(self) -> Iterator[tuple[str, str]]:
        for name in ("text", "states"):
            if self.distil_cache and getattr(self, name):
                yield "distil_cache", (
                    f"{self.distil_cache} with {name} {getattr(self, name):g}, which needs the "
                    "text in every step; allowed: 0"
                )
        if self.states and not self.state_layers:
            yield "state_layers", "[] with states; allowed: one layer or more"
