"""Labelled grey images as batches."""

from functools import cached_property
from typing import Any

import numpy as np

from jaxgraph.data.config import GreyData
from jaxgraph.data.grey import GreyImages, grey_batches, load_labelled
from jaxgraph.train.task import Batches


class LabelledImages:
    """Images of a `GreyData`; nothing is read before it is asked for."""

    def __init__(self, config: GreyData):
        self._config = config

    @property
    def side(self) -> tuple[int, int]:
        """Height and width."""
        return self._images.splits["train"].pixels.shape[1:]

    @property
    def inputs(self) -> int:
        """Pixels of an image."""
        return self.side[0] * self.side[1]

    @cached_property
    def classes(self) -> int:
        """Largest label of any split plus 1."""
        return 1 + max(int(s.labels.max(initial=0)) for s in self._images.splits.values())

    def batches(self, split: str, seed: int) -> Batches:
        config = self._config
        return grey_batches(
            self._images, split, batch_size=config.batch_size, seed=seed,
            draws=config.order == "draws",
        )  # fmt: skip

    def labels(self, split: str) -> np.ndarray:
        return self._images.splits[split].labels

    def pixels(self, split: str) -> Any:
        return self._images.splits[split].pixels

    def describe(self) -> dict[str, str]:
        return {"images": f"{self._images.description} ({self._images.licence})"}

    @cached_property
    def _images(self) -> GreyImages:
        return load_labelled(self._config)
