"""Our side of a pair: the faithful mode's samples, scanned in one call."""

from bench import worker

ROW = worker.start()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from bench.jax_side import JaxSide  # noqa: E402
from bench.neurograph_draws import draw  # noqa: E402
from jaxgraph.neurograph.faithful.cell import Indices  # noqa: E402
from jaxgraph.neurograph.faithful.step import Memory, Sample, Trainer  # noqa: E402
from jaxgraph.neurograph.faithful.task import make_dynamics  # noqa: E402
from jaxgraph.neurograph.faithful.training import Learned  # noqa: E402
from jaxgraph.neurograph.faithful.updates import Residuals  # noqa: E402


class Ours(JaxSide):
    """Commands of `bench.pair`."""

    def __init__(self, row):
        self.row, self.trainer = row, Trainer(row.faithful, make_dynamics(row.faithful))

    def load(self, path: str | None) -> None:
        """Takes indices of the reference, or makes the same."""
        row = self.row
        drawn = draw(row)
        if path:
            with np.load(path) as stored:
                drawn = dict(stored)
        pair = lambda name: Indices(  # noqa: E731
            *(jnp.asarray(drawn[f"{name}_{part}"], jnp.int32) for part in ("phase", "mag"))
        )
        nodes = pair("node")
        zeros = jnp.zeros(nodes.phase.shape)
        self.memory = Memory(Learned(nodes, Residuals(zeros, zeros)), None, jnp.int32(0))
        tables = self.trainer.dynamics.tables
        self.codes = tables.signal(*pair("code"))
        labels = jnp.asarray(drawn["labels"], jnp.int32)
        self.samples = Sample(pair("input"), labels, jnp.ones(len(labels), bool))
        self.read = jax.jit(self._read)

    def loss(self) -> float:
        return float(jnp.mean(self.read(self.memory, self.codes, self.samples)))

    def warm_up(self, calls: int) -> dict:
        work = jax.jit(self._train if self.row.trains else self._read)
        programs = []
        compile_ms = worker.timed(
            lambda: programs.append(
                work.lower(self.memory, self.codes, self.samples).compile()
            )
        )
        self.program = programs[0]
        warm = [self.run() for _ in range(calls)]
        return {"compile_s": compile_ms / 1000, "warm_up_s": self.row.samples * sum(warm) / 1000}

    def run(self) -> float:
        """Milliseconds of one of the samples of a call."""
        return worker.timed(self._call) / self.row.samples

    def finish(self) -> dict:
        # Loops of unknown length: there is no count of operations.
        return {"peak_mb": self.peak_mb(), "flops": 0, "bytes": None}

    def _call(self) -> None:
        found = self.program(self.memory, self.codes, self.samples)
        if self.row.trains:
            self.memory = found
        jax.block_until_ready(found)

    def _train(self, memory, codes, samples):
        return jax.lax.scan(
            lambda memory, sample: (self.trainer.learn(memory, codes, sample)[0], None),
            memory, samples,
        )[0]  # fmt: skip

    def _read(self, memory, codes, samples):
        nodes = memory.learned.nodes
        return jax.lax.map(
            lambda sample: self.trainer.read(nodes, codes, sample.inputs, sample.label)[0].loss,
            samples,
        )


if __name__ == "__main__":
    worker.serve(Ours(ROW))
