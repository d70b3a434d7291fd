"""A whole run: frozen models, questions, encoder, losses, optimiser."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.fields import Count, Fraction, NonNegative, Positive
from jaxgraph.latentwire.config.losses import Losses
from jaxgraph.latentwire.config.model import Adapter, Encoder
from jaxgraph.lm.config import Compute
from jaxgraph.train.config import Group, Schedule


@dataclass(frozen=True)
class Data:
    """Questions, and how they become rows of fixed shape."""

    source: str = "boolq"
    """As in `data.qa.load_qa`: boolq, disflqa, narrativeqa, trec, files of JSON lines, or
    autoencode:SOURCE, where the answer is the text itself."""
    max_examples: Count = 0
    """Keep the first so many; 0 keeps all."""
    piece: Count = 0
    """Cuts texts to autoencode into pieces of so many tokens of the first model; 0 leaves them."""
    max_bytes: Positive = 512
    """Bytes of a text that the encoder reads; the rest is cut off."""
    max_text_tokens: Positive = 256
    """Tokens of a text that the teacher reads, with the anchor."""
    max_answer_tokens: Positive = 32
    """Tokens of an answer, with its end."""
    anchor: str = "Answer: "
    """Between soft prompt and answer; one space is added at its end; empty for none."""
    bos: Literal["no", "yes", "auto"] = "auto"
    """Whether the model's BOS stands in front of the anchor; `auto`: where there is no anchor."""
    end: bool = True
    """Answers end with the model's end of sequence, so that stopping is learnt."""
    batch_size: Positive = 64
    """Rows a step."""
    buckets: Positive = 1
    """Training rows are sorted into so many groups by length, and a batch is of one group, no wider
    than its longest row. Each group is compiled once; needs train.steps_per_call 1."""
    validation: Fraction = 0.05
    """Share of contexts for validation."""
    test: Fraction = 0.05
    """Share of contexts for the final test."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.validation + self.test >= 1:
            yield "validation", (
                f"{self.validation:g} + test {self.test:g} leaves nothing to learn; "
                "allowed: a sum below 1"
            )
        if self.piece and not self.source.startswith("autoencode:"):
            yield "piece", f"{self.piece} with source {self.source!r}; allowed: autoencode:SOURCE"


@dataclass(frozen=True)
class Optim:
    """One optimiser for encoder and adapters."""

    group: Group = Group(
        "adamw", lr=1e-4, weight_decay=0.01, decay="all", schedule=Schedule("cosine", final=0.02)
    )
    clip: NonNegative = 1.0
    """Largest gradient norm over all that is trained; 0 turns clipping off."""
    accumulate: Positive = 1
    """Micro-batches a step, each with token means of its own, weighted by its rows."""


@dataclass(frozen=True)
class Evaluation:
    """What `scripts/evaluate.py` measures besides the loss."""

    examples: Positive = 200
    """Of the split, from its beginning."""
    bits: Literal[4, 6, 8, 16] = 8
    """Bits of a number on the wire whose cost is told; below 16 the wire is also heard so."""
    slots: tuple[Positive, ...] = ()
    """Also hears only the first so many slots, beside as many tokens of the text."""
    resamples: Positive = 1000
    """Of the examples, for intervals."""


@dataclass(frozen=True)
class LatentWire:
    """Soft tokens for frozen language models."""

    lms: tuple[str, ...] = ("smollm2",)
    """Frozen models: smollm2, glassllm:en, glassllm:pt, Hugging Face folders, .gguf files."""
    compute: Compute = Compute()
    encoder: Encoder = Encoder()
    adapter: Adapter = Adapter()
    losses: Losses = Losses()
    data: Data = Data()
    optim: Optim = Optim()
    evaluation: Evaluation = Evaluation()

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.lms or len(set(self.lms)) < len(self.lms):
            yield "lms", f"{list(self.lms)}; allowed: one or more different models"
        slots = self.encoder.slots
        if any(size >= slots for size in self.evaluation.slots):
            yield "evaluation.slots", (
                f"{list(self.evaluation.slots)}; allowed: numbers below the {slots} of the encoder"
            )
        losses = self.losses
        spelt = (
            losses.manifold or losses.first_align or losses.answer_align or losses.curriculum.warmup
        )
        if self.adapter.prefix_width and (spelt or self.adapter.colour):
            yield "adapter.prefix_width", (
                f"{self.adapter.prefix_width} with what needs the width of the model's embeddings "
                "(adapter.colour, losses.manifold, first_align, answer_align, curriculum.warmup); "
                "allowed: 0, or none of those"
            )
        if self.data.batch_size % self.optim.accumulate:
            yield "optim.accumulate", (
                f"{self.optim.accumulate} does not divide the batch of {self.data.batch_size}; "
                "allowed: a divisor"
            )
