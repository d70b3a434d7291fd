"""One of several processes of a slow toy run.

    python -m tests.reliability.ranks FOLDER STEPS SECONDS PROCESS PROCESSES PORT [OPTION=VALUE ...]

SECONDS are those that a step takes; options are fields of `Parallel`.
"""

import sys
from pathlib import Path

import jax
import numpy as np

from jaxgraph.train import processes
from jaxgraph.train.config import Parallel, Train
from jaxgraph.train.loop import fit
from tests.reliability.worker import Slow


def main(argv):
    folder, steps, Slow.seconds = Path(argv[0]), int(argv[1]), float(argv[2])
    own, count, port = map(int, argv[3:6])
    options = dict(option.split("=") for option in argv[6:])
    parallel = Parallel(
        processes=count, process=own, coordinator=f"localhost:{port}", timeout=10, **options
    )
    jax.config.update("jax_num_cpu_devices", 2)
    with processes.together(parallel):
        config = Train(steps=steps, log_every=1, eval_every=10, save_every=10, progress="plain")
        result = fit(Slow(), config, folder, parallel=parallel)
        if not result.stopped:
            kept = (result.state.params, result.state.opt_state, result.state.extra)
            np.savez(folder / f"final{own}.npz", *map(np.asarray, jax.tree.leaves(kept)))


if __name__ == "__main__":
    main(sys.argv[1:])
