"""One of two processes that run small tasks of `systems` and keep what they saw.

    python -m tests.parallel.ranks FOLDER RANK PORT NAME[:pmap] ...
"""

import sys
from pathlib import Path

import jax
import numpy as np

from jaxgraph.train import processes
from jaxgraph.train.config import Parallel
from tests.parallel import systems


def main(argv):
    folder, rank, port = Path(argv[0]), int(argv[1]), int(argv[2])
    jax.config.update("jax_num_cpu_devices", 1)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    together = dict(processes=2, process=rank, coordinator=f"localhost:{port}")
    with processes.together(Parallel(**together)):
        for work in argv[3:]:
            name, _, backend = work.partition(":")
            parallel = Parallel(backend or "mesh", **together)
            _, last, history, runner = systems.run(name, parallel)
            assert runner.mesh.size == 2 and len(runner.mesh.local_devices) == 1
            if not backend:
                # Each process holds its own half of a batch and no more.
                rows = runner.place(systems.batches(name)[0])["mask"]
                assert [shard.data.shape[0] for shard in rows.addressable_shards] == [4]
            seen = {k: np.array([row[k] for row in history]) for k in history[0] if k in KEPT}
            leaves = [x for x in jax.tree.leaves(last.params) if x.dtype.kind in "iu"]
            whole = {f"integers_{i}": np.asarray(x) for i, x in enumerate(leaves)}
            np.savez(folder / f"{work}-{rank}.npz", **seen, **whole)


KEPT = ("loss", "grad_norm")

if __name__ == "__main__":
    main(sys.argv[1:])
