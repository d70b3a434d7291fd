"""Where observations come from: pools of numbers, images, or numbers that arrive live.

Batches are dicts of `bits` uint8 [b, d / 8], `label` int32 [b] and `mask` float32 [b]. Training
batches of a pool are dicts of `row` int32 [b] and `mask`: the step takes the rows off the device.
"""

from functools import cached_property
from typing import Any, Protocol

import numpy as np

from jaxgraph.data.config import ImagesData, NumbersData, StreamData
from jaxgraph.train.task import Batches
from jaxgraph.vae.config import Likelihood, Vae
from jaxgraph.vae.metrics.levels import bit_shares, constant_decoder, noise_floor
from jaxgraph.vae.separability import NUMBER_CLASSES
from jaxgraph.vae.structure import Structure, number_structure


class Source(Protocol):
    """What the task asks of its data."""

    inputs: int
    """d: coordinates of a data point."""
    class_of: tuple[int, ...]
    """Class of each label."""

    def batches(self, split: str, seed: int) -> Batches:
        """See `Task.batches`."""

    def pool(self) -> Any:
        """`bits` and `label` of all training rows, of which training batches are row numbers; None
        where those hold the bits themselves."""

    def describe(self) -> dict[str, str]:
        """See `Task.describe`."""

    def packed(self, split: str) -> Any:
        """All rows of a split, uint8 [n, d / 8]."""

    def labels(self, split: str) -> Any:
        """Their labels, int32 [n]."""

    def structure(self) -> Structure:
        """What is known of the data without any model."""


class NumberSource:
    """Numbers of a pool, split by number."""

    class_of = NUMBER_CLASSES

    def __init__(self, config: NumbersData):
        self._config, self.inputs = config, config.bits

    def batches(self, split: str, seed: int) -> Batches:
        from jaxgraph.data.numbers import number_batches

        size = self._config.batch_size
        if split == "train":
            return _row_numbers(self, size, seed)
        return number_batches(self._numbers, split, batch_size=size, seed=seed)

    def pool(self) -> Any:
        return _pool(self)

    def describe(self) -> dict[str, str]:
        return {"numbers": self._numbers.description}

    def packed(self, split: str) -> Any:
        return self._numbers.splits[split].bits

    def labels(self, split: str) -> Any:
        return self._numbers.splits[split].labels

    def structure(self) -> Structure:
        return number_structure(self._config.generator)

    @cached_property
    def _numbers(self) -> Any:
        from jaxgraph.data.numbers import load_numbers

        return load_numbers(self._config)


class StreamSource(NumberSource):
    """Numbers that arrive live, judged on held-out ones of a pool."""

    def __init__(self, live: StreamData, config: NumbersData):
        super().__init__(config)
        self._live = live

    def batches(self, split: str, seed: int) -> Batches:
        if split != "train":
            return super().batches(split, seed)
        from jaxgraph.data.stream import PacketStream

        return PacketStream(self._live)

    def pool(self) -> None:
        return None

    def describe(self) -> dict[str, str]:
        return {"stream": self._live.address, "held-out": super().describe()["numbers"]}


class ImageSource:
    """Black and white images."""

    class_of = tuple(range(10))

    def __init__(self, config: ImagesData):
        self._config = config

    @property
    def inputs(self) -> int:
        return 8 * self.packed("train").shape[1]

    def batches(self, split: str, seed: int) -> Batches:
        from jaxgraph.data.images import image_batches

        size = self._config.batch_size
        if split == "train" and self._resident:
            return _row_numbers(self, size, seed)
        return image_batches(self._images, split, batch_size=size, seed=seed)

    def pool(self) -> Any:
        return _pool(self) if self._resident else None

    def describe(self) -> dict[str, str]:
        return {"images": f"{self._images.description} ({self._images.licence})"}

    def packed(self, split: str) -> Any:
        return self._images.splits[split].bits

    def labels(self, split: str) -> Any:
        return self._images.splits[split].labels

    def structure(self) -> Structure:
        return Structure()

    @property
    def _resident(self) -> bool:
        """Whether training rows stay as they are: dynamic ones are drawn on the host."""
        return self._config.binarise != "dynamic"

    @cached_property
    def _images(self) -> Any:
        from jaxgraph.data.images import load_images

        return load_images(self._config)


def _pool(source: Any) -> dict[str, Any]:
    return {"bits": source.packed("train"), "label": source.labels("train")}


def _row_numbers(source: Any, size: int, seed: int) -> Batches:
    from jaxgraph.data.rows import row_numbers

    return row_numbers(len(source.packed("train")), batch_size=size, seed=seed)


def make_source(config: Vae) -> Any:
    """The `Source` that a config names; nothing is read or made before it is asked for."""
    if config.dataset == "images":
        return ImageSource(config.images)
    if config.dataset == "stream":
        return StreamSource(config.stream, config.data)
    return NumberSource(config.data)


def baselines(source: Any, split: str, likelihood: Likelihood) -> dict[str, float]:
    """Negative log-likelihoods, in nats, of decoders without latents (spec/vae.md, 17)."""
    # A bit that training never saw change would cost infinity if it did.
    predicted = np.clip(bit_shares(source.packed("train")), 1e-6, 1 - 1e-6)
    constant = constant_decoder(bit_shares(source.packed(split)), likelihood.sigma, predicted)
    floor = noise_floor(source.inputs, likelihood.sigma)
    if likelihood.kind == "bernoulli":
        constant, floor = constant - floor, 0.0
    return {"constant decoder": constant, "all bits known": floor}
