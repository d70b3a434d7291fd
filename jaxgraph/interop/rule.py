"""Rules: which leaf of ours is which key of a PyTorch state dict, and in which layout.

A rule names both with index variables: ``layer_{i}/experts/up/kernel`` and
``layers.{i}.experts.{e}.up.weight``. A variable that only the key has is a leading axis of the
leaf: its experts are stacked.
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxgraph.problems import Problems

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Form:
    """Layout of one tensor on the two sides; this one: alike."""

    def torch_shape(self, shape: Shape) -> Shape:
        """Shape under the key of a leaf of this shape."""
        return shape

    def to_torch(self, leaf: np.ndarray) -> np.ndarray:
        return leaf.reshape(self.torch_shape(leaf.shape))

    def to_jax(self, tensor: np.ndarray, shape: Shape) -> np.ndarray:
        return tensor.reshape(shape)


@dataclass(frozen=True)
class Vector(Form):
    """A flat vector in PyTorch, cut into axes here: packed biases."""

    def torch_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


@dataclass(frozen=True)
class Linear(Form):
    """[out, in] in PyTorch; [inputs..., outputs...] here, of which `inputs` axes are inputs."""

    inputs: int = 1

    def torch_shape(self, shape: Shape) -> Shape:
        return math.prod(shape[self.inputs :]), math.prod(shape[: self.inputs])

    def to_torch(self, leaf: np.ndarray) -> np.ndarray:
        return leaf.reshape(self.torch_shape(leaf.shape)[::-1]).T

    def to_jax(self, tensor: np.ndarray, shape: Shape) -> np.ndarray:
        return tensor.T.reshape(shape)


SAME = Form()
VECTOR = Vector()
LINEAR = Linear()


@dataclass(frozen=True)
class Rule:
    """One line of a table: our path, the original's key, and the layout."""

    path: str
    key: str
    form: Form = SAME

    def place(self, path: str, shape: Shape) -> "Place | None":
        """The keys of this leaf, or None if the rule is not about it."""
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(self.path))
        match = re.fullmatch(pattern, path)
        if match is None:
            return None
        stacked = [v for v in re.findall(r"\{(\w+)\}", self.key) if v not in match.groupdict()]
        grid = itertools.product(*(range(size) for size in shape[: len(stacked)]))
        keys = [
            self.key.format_map(match.groupdict() | dict(zip(stacked, index, strict=True)))
            for index in grid
        ]
        return Place(shape, keys, shape[len(stacked) :], self.form)


@dataclass(frozen=True)
class Place:
    """Where one leaf lives in a state dict: its keys, one for each part along the stacked axes."""

    shape: Shape
    keys: list[str]
    part: Shape
    form: Form

    @property
    def tensor_shape(self) -> Shape:
        """Shape of the tensor under each of the keys."""
        return self.form.torch_shape(self.part)

    def split(self, leaf: np.ndarray) -> list[np.ndarray]:
        """Tensors for the keys. Contiguous: a transposed view would be written with the bytes of
        the untransposed array."""
        parts = leaf.reshape(len(self.keys), *self.part)
        return [np.array(self.form.to_torch(np.asarray(part)), order="C") for part in parts]

    def join(self, tensors: Sequence[np.ndarray]) -> np.ndarray:
        """The leaf of these tensors."""
        parts = [self.form.to_jax(tensor, self.part) for tensor in tensors]
        return np.stack(parts).reshape(self.shape)


def find_places(
    shapes: Mapping[str, Shape], rules: Sequence[Rule], problems: Problems
) -> dict[str, Place]:
    """The place of every leaf; leaves without exactly one rule and keys used twice are problems."""
    places: dict[str, Place] = {}
    owners: dict[str, str] = {}
    for path, shape in shapes.items():
        found = [(rule, place) for rule in rules if (place := rule.place(path, shape))]
        if len(found) != 1:
            names = ", ".join(rule.path for rule, _ in found) or "none"
            problems.add(f"leaf {path} {list(shape)} needs exactly one rule; found: {names}")
            continue
        [(_, places[path])] = found
        for key in places[path].keys:
            if key in owners:
                problems.add(f"key {key} is claimed by two leaves: {owners[key]} and {path}")
            owners[key] = path
    return places
