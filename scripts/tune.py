"""Searches hyperparameters of NeuroGraph's learning mode by a genetic algorithm:

  python scripts/tune.py --config configs/smoke/neurograph.yaml --out runs/tune --steps 200

All individuals of a generation train side by side in one program. Fitness is the accuracy on the
validation split. Running the same command again goes on. Further options are the config's own.
"""

import argparse
from dataclasses import fields
from pathlib import Path

from jaxgraph import config as configs
from jaxgraph import errors


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="YAML file of a neurograph run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the search")
    parser.add_argument("--steps", type=_positive, default=200, help="of each individual (200)")
    for name, (kind, what) in OPTIONS.items():
        parser.add_argument(f"--{name}", type=kind, help=what)
    options, rest = parser.parse_known_args(argv)
    schedule_end = ["--train.steps", str(options.steps), "--train.steps_per_call", "1"]
    silent = ["--train.eval_every", "1", "--train.save_every", "1",
              "--train.diagnostics_every", str(options.steps + 1)]  # fmt: skip
    config = configs.load(["--config", options.config, *rest, *schedule_end, *silent])
    if config.system != "neurograph" or config.task.mode != "learning":
        raise errors.UserError(f"{options.config} is no neurograph run in learning mode")

    from jaxgraph.neurograph.tuning import Search, make_fitness, run_search
    from jaxgraph.systems import make_task

    given = {f.name: getattr(options, f.name) for f in fields(Search)}
    search = Search(**{name: value for name, value in given.items() if value is not None})
    fitness = make_fitness(make_task(config), search, options.steps)
    settings = {"steps": options.steps, "task": configs.to_dict(config)["task"]}
    found = run_search(search, fitness, options.out / "search.json", settings, print)
    best = found[0]
    print(f"\nbest of {len(found)}: validation accuracy {best['fitness']:.4f}")
    for name, value in best["genes"].items():
        print(f"  --task.learning.{KEYS[name]} {value:g}")


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text}: allowed: at least 1")
    return value


def _share(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text}: allowed: 0 to 1")
    return value


OPTIONS = {
    "population": (_positive, "individuals of a generation (8)"),
    "generations": (_positive, "of them (4)"),
    "elite": (_share, "share that survives and breeds (0.5)"),
    "crossover": (_share, "probability of two parents (0.3)"),
    "mutation": (_share, "probability of each gene to be drawn anew (0.2)"),
    "runs": (_positive, "seeds that fitness is a mean over (1)"),
    "seed": (int, "of the search (0)"),
}
KEYS = {
    "lr": "optim.lr", "b1": "optim.b1", "b2": "optim.b2", "temperature": "loss.temperature",
    "smoothing": "loss.label_smoothing",
}  # fmt: skip

if __name__ == "__main__":
    errors.run(main)
