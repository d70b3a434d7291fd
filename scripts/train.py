"""Trains a system:  python scripts/train.py --config configs/smoke/moe.yaml --train.steps 100

Running the same command again goes on where the run in `workdir` stopped. `--profile N`, short for
`--train.profile N`, traces N steps for TensorBoard's profiler into the run's folder.
"""

from pathlib import Path

from jaxgraph import config as configs
from jaxgraph import errors, runs


def main(argv: list[str]) -> None:
    config = configs.load(["--train.profile" if part == "--profile" else part for part in argv])
    if config.parallel.processes == 1:
        train(config, runs.claim(config))
        return

    from jaxgraph.train import processes

    with processes.together(config.parallel):
        main_process = processes.is_main()
        train(config, runs.claim(config, write=main_process), show=main_process)


def train(config: configs.Config, notes: list[str], *, show: bool = True) -> None:
    """Trains and, where asked to, shows what came of it."""
    from jaxgraph.systems import make_task
    from jaxgraph.train import loop, parallel

    workdir = Path(config.workdir)
    if show:
        print(f"run: {workdir}", *notes, sep="\n", flush=True)
    if config.train.compile_cache:
        parallel.use_compile_cache(workdir.absolute().parent / ".compiled")
    task = make_task(config)
    result = loop.fit(
        task, config.train, workdir, parallel=config.parallel, seed=config.seed,
        resolved=configs.to_dict(config),
    )
    if result.stopped or not show:
        return
    for name, value in task.baselines().items():
        print(f"for comparison, {name}: {value:.4f}")
    print(f"validation loss: {result.metrics['loss']:.4f}")
    # It would compute, and the other processes have gone home.
    shown = "" if config.parallel.processes != 1 else task.showcase(result.state)
    if shown:
        print(f"\n{shown}")


if __name__ == "__main__":
    errors.run(main)
