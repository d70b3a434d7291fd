"""A slow toy run in a process of its own, for tests that stop and kill it.

    python -m tests.reliability.worker FOLDER STEPS SECONDS_A_STEP
"""

import time
from pathlib import Path

import jax
import numpy as np

from jaxgraph import errors
from jaxgraph.train.config import Train
from jaxgraph.train.loop import fit
from tests.train import toy


class Slow(toy.Toy):
    """Each batch takes its time, so that signals find the run at work."""

    seconds = 0.0

    def batches(self, split):
        batches = super().batches(split)
        if split != "train":
            return batches
        seconds = self.seconds

        class Waiting(toy.Batches):
            def __getitem__(self, i):
                if isinstance(i, slice):
                    return Waiting(self.seed, start=self.start + (i.start or 0))
                return super().__getitem__(i)

            def __iter__(self):
                for batch in super().__iter__():
                    time.sleep(seconds)
                    yield batch

        return Waiting(0)


def main(argv):
    folder, steps, Slow.seconds = Path(argv[0]), int(argv[1]), float(argv[2])
    config = Train(steps=steps, log_every=1, eval_every=10, save_every=10, progress="plain")
    result = fit(Slow(), config, folder)
    if not result.stopped:
        leaves = jax.tree.leaves((result.state.params, result.state.opt_state, result.state.extra))
        np.savez(folder / "final.npz", *map(np.asarray, leaves))


if __name__ == "__main__":
    errors.run(main)
