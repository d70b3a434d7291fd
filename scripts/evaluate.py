"""Evaluates a run on a whole split:  python scripts/evaluate.py --workdir runs/moe --split test"""

import argparse
import json
from pathlib import Path

from jaxgraph import errors, runs


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the run")
    parser.add_argument("--split", default="validation", choices=["validation", "test"])
    parser.add_argument("--step", default="best", help="best, latest or a step")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    run = runs.open_run(options.workdir, options.step)

    import jax

    from jaxgraph.train.evaluate import evaluate

    task = run.task
    found = evaluate(
        jax.jit(task.eval_step), run.state, task.frozen(), task.batches(options.split)
    )
    metrics, baselines = task.derive(found, options.split), task.baselines(options.split)
    if options.json:
        print(json.dumps({
            "step": run.step, "split": options.split, "metrics": metrics, "baselines": baselines,
        }))
        return
    print(f"{options.workdir}, step {run.step}, {options.split} split")
    for name, value in (task.describe() | metrics | baselines).items():
        print(f"  {name}: {value if isinstance(value, str) else f'{value:.4f}'}")


if __name__ == "__main__":
    errors.run(main)
