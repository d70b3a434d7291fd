"""What is trained: the encoder of the wire and the adapters."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.fields import Count, Positive


@dataclass(frozen=True)
class Encoder:
    """From bytes to slots."""

    width: Positive = 256
    """Of bytes and slots."""
    layers: Positive = 6
    """Of the encoder's stack."""
    heads: Positive = 8
    """Attention heads; their number divides `width`."""
    ffn_ratio: Positive = 4
    """Hidden width of the feed-forward networks, as a multiple of the width."""
    shared_slots: Count = 32
    """Slots that all models hear."""
    private_slots: Count = 0
    """Slots for each model alone."""
    refiner: Count = 0
    """Layers in which one model's slots see one another before it hears them; its adapter and heads
    read what comes out."""
    refiner_heads: Positive = 4
    """Attention heads of those layers; their number divides `width`."""
    padding: Literal["hidden", "read"] = "hidden"
    """`read` lets padding count as zero bytes, as in the original: a text's wire then depends on
    the texts beside it."""

    @property
    def slots(self) -> int:
        """Slots that one model hears."""
        return self.shared_slots + self.private_slots

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.width % (2 * self.heads):
            yield "width", (
                f"{self.width} is not a multiple of twice the {self.heads} heads; allowed: one"
            )
        if self.refiner and self.width % self.refiner_heads:
            yield "refiner_heads", f"{self.refiner_heads}; allowed: divisors of the {self.width}"
        if not self.slots:
            yield "shared_slots", "0 with private_slots 0 leaves no wire; allowed: one or more"


@dataclass(frozen=True)
class Adapter:
    """From slots to a model's soft prompt."""

    hidden_ratio: Positive = 2
    """Hidden width as a multiple of the wire's; 1 is a single linear map."""
    metadata: bool = True
    """Adds a learned vector to each slot."""
    lengths: bool = False
    """Tells the adapter the true answer's length while training, as the original does; it is never
    known in evaluation."""
    deep: bool = False
    """The model hears keys and values in every layer, made out of its soft prompt, and the soft
    prompt itself is not fed (the original's deep prefix)."""
    prefix_width: Count = 0
    """Width of what those keys and values are made of; 0 is that of the model's embeddings."""
    coprocessor: Count = 0
    """The model hears so many keys and values in every layer, made out of the whole wire (the
    original's coprocessor), in front of the soft prompt."""
    coprocessor_width: Positive = 256
    """Hidden width of what makes them."""
    coprocessor_pool: Literal["mean", "first", "max"] = "mean"
    """How slots become one vector."""
    soft_prompt: bool = True
    """false: behind a coprocessor the soft prompt is not fed, as in the original."""
    layers: tuple[Count, ...] = ()
    """Behind these layers of the model, from 0, a block of attention and an MLP reads the wire (the
    original's latent adapters)."""
    layer_heads: Positive = 8
    """Of that attention."""
    colour: bool = False
    """Standardises each vector and gives it the model's mean and spread by coordinate."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.lengths and not self.metadata:
            yield "lengths", "true needs metadata: true; allowed: false"
        if len(set(self.layers)) < len(self.layers):
            yield "layers", f"{list(self.layers)}; allowed: each layer once"
        if not (self.soft_prompt or self.coprocessor):
            yield "soft_prompt", "false needs a coprocessor, or nothing is heard; allowed: true"
        if self.prefix_width and not self.deep:
            yield "prefix_width", f"{self.prefix_width} needs deep: true; allowed: 0"
