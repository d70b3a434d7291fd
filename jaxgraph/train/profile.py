"""A trace of some steps, for TensorBoard's profiler."""

from pathlib import Path
from typing import Any

import jax


class Trace:
    """Traces `steps` steps behind the first call, which compiles; a context manager.

    The folder is one that `tensorboard --logdir` (with tensorboard-plugin-profile) reads.
    """

    def __init__(self, folder: Path, steps: int):
        self._folder, self._left = folder, steps
        self._active = False

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *_) -> None:
        if self._active:
            jax.profiler.stop_trace()
            self._active = False

    def done(self, steps: int, result: Any) -> None:
        """Called behind each call of a step, with what it returned."""
        if not self._left:
            return
        # Work under way would be missing at one end of the trace and be counted at the other.
        jax.block_until_ready(result)
        if not self._active:
            jax.profiler.start_trace(str(self._folder))
            self._active = True
            return
        self._left = max(self._left - steps, 0)
        if not self._left:
            self.__exit__()
