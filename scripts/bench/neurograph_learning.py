"""Our side of a row of the learning mode: steps or predictions, scanned in one call."""

from bench import worker

ROW = worker.start()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from bench.jax_side import JaxSide  # noqa: E402
from bench.neurograph_draws import CLASSES  # noqa: E402
from bench.rates import matmul_flops  # noqa: E402
from jaxgraph.neurograph.learning.task import LearningTask  # noqa: E402
from jaxgraph.train.step import scan_steps  # noqa: E402

STEPS = 10
"""A call, as in the configs."""


class Source:
    """What the task asks of its images."""

    side, classes = (ROW.side, ROW.side), CLASSES


class Ours(JaxSide):
    """Commands of `bench.pair`."""

    def __init__(self, row):
        self.row = row
        self.task = LearningTask(
            row.learning, source=Source(), total_steps=10**6, diagnostics_every=0
        )

    def load(self, path: str | None) -> None:
        """Random indices, images and labels; there is no reference to take them from."""
        row, rng = self.row, np.random.default_rng(self.row.seed)
        shape = (STEPS, row.samples)
        batches = {
            "image": rng.integers(0, 256, (*shape, *Source.side), np.uint8),
            "label": rng.integers(0, CLASSES, shape).astype(np.int32),
            "mask": np.ones(shape, np.float32),
        }
        self.state = jax.jit(self.task.init)(jax.random.key(row.seed))
        self.batches = jax.device_put(batches)
        self.first = jax.tree.map(lambda x: x[0], self.batches)
        self.evaluate = jax.jit(self.task.eval_step)

    def loss(self) -> float:
        return float(self.evaluate(self.state, None, self.first)["loss"])

    def warm_up(self, calls: int) -> dict:
        if self.row.trains:
            work = jax.jit(scan_steps(self.task.train_step, STEPS), donate_argnums=0)
        else:
            work = jax.jit(self._predict)
        programs = []
        compile_ms = worker.timed(
            lambda: programs.append(work.lower(self.state, None, self.batches).compile())
        )
        self.program = programs[0]
        warm = [self.run() for _ in range(calls)]
        return {"compile_s": compile_ms / 1000, "warm_up_s": STEPS * sum(warm) / 1000}

    def run(self) -> float:
        """Milliseconds of one of the steps of a call."""
        return worker.timed(self._call) / STEPS

    def finish(self) -> dict:
        forward = jax.make_jaxpr(self.task.predict)(self.state.params, self.first["image"])
        flops = matmul_flops(forward.jaxpr, max) * (3 if self.row.trains else 1)
        return {"peak_mb": self.peak_mb(), "flops": flops, "bytes": None}

    def _call(self) -> None:
        found = self.program(self.state, None, self.batches)
        if self.row.trains:
            self.state = found[0]
        jax.block_until_ready(found)

    def _predict(self, state, frozen, batches):
        del frozen
        return jax.lax.map(
            lambda images: jnp.argmax(self.task.predict(state.params, images), 1),
            batches["image"],
        )


if __name__ == "__main__":
    worker.serve(Ours(ROW))
