"""Modules behind layers of a decoder that read something besides its stream, such as a wire."""

from collections.abc import Callable
from functools import partial
from typing import Any

from flax import struct


class Reading(struct.PyTreeNode):
    """What is read, and by which modules; may go through `jit`, as modules are part of its type."""

    modules: tuple[tuple[int, Any], ...] = struct.field(pytree_node=False)
    """Layers, from 0, and the Linen module behind each: called with stream and memory."""
    params: Any
    """Of each module, in the same order."""
    memory: Any
    """[b m d]"""

    def hooks(self) -> dict[int, Callable[[Any], Any]]:
        """For `Llama`'s `after`."""
        return {
            layer: partial(_read, module, params, self.memory)
            for (layer, module), params in zip(self.modules, self.params, strict=True)
        }


def hooks_of(reading: Reading | None) -> dict[int, Callable[[Any], Any]]:
    """None where nothing is read."""
    return {} if reading is None else reading.hooks()


def _read(module: Any, params: Any, memory: Any, stream: Any) -> Any:
    return module.apply({"params": params}, stream, memory).astype(stream.dtype)
