"""The largest batch whose training step fits into the memory that is free:

  python scripts/batch_size.py --config configs/latentwire_smollm2.yaml [--memory 40]

Steps are compiled and not run, but what a task makes before its first batch is made (the teacher's
answers of `losses.distil_cache`: on a CPU set it to 0). Further options are laid over the config.
Where learning wants a larger batch, optim.accumulate makes it out of such ones.
"""

import argparse

from jaxgraph import config as configs
from jaxgraph import errors


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="config file")
    parser.add_argument("--memory", type=float, help="GiB to fill, instead of what is free here")
    options, overrides = parser.parse_known_args(argv)
    if options.memory is not None and not options.memory > 0:
        raise errors.UserError(f"--memory: got {options.memory}; allowed: numbers above 0")
    config = configs.load(["--config", options.config, *overrides])

    import jax

    from jaxgraph.systems import make_task
    from jaxgraph.train.memory import free_bytes, largest_batch, step_bytes, widest

    task = make_task(config)
    state = jax.eval_shape(task.init, jax.random.key(config.seed))
    groups = getattr(config.task.data, "buckets", 1)  # of different widths, one a batch
    batch, frozen = widest(task.batches("train"), groups), task.frozen()
    free = int(options.memory * 2**30) if options.memory else free_bytes()

    def needed(rows: int) -> int:
        found = step_bytes(task.train_step, state, frozen, batch, rows)
        print(f"{rows:4} rows: {found / 2**30:.2f} GiB", flush=True)
        return found

    rows, _ = largest_batch(needed, free)
    print(f"of {free / 2**30:.2f} GiB: --task.data.batch_size {rows}")


if __name__ == "__main__":
    errors.run(main)
