"""Evaluates a run on a whole split:  python scripts/evaluate.py --workdir runs/moe --split test

Further options, such as --task.data.batch_size 256, are laid over the run's config.
"""

import argparse
import json
from pathlib import Path

from jaxgraph import config as configs
from jaxgraph import errors, report_table, runs


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--workdir", type=Path, help="folder of the run")
    which.add_argument("--config", type=Path, help="config file whose workdir is the run")
    parser.add_argument("--split", default="validation", choices=["validation", "test"])
    parser.add_argument("--step", default="best", help="best, latest or a step")
    parser.add_argument("--brief", action="store_true", help="means over the split and no more")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options, overrides = parser.parse_known_args(argv)
    workdir = options.workdir
    if options.config:
        workdir = Path(configs.load(["--config", str(options.config), *overrides]).workdir)
    run = runs.open_run(workdir, options.step, tuple(overrides))

    import jax

    from jaxgraph.train.evaluate import evaluate
    from jaxgraph.train.task import Examined

    task = run.task
    found = evaluate(
        jax.jit(task.eval_step), run.state, task.frozen(), task.batches(options.split)
    )
    metrics, baselines = task.derive(found, options.split), task.baselines(options.split)
    more = {}
    if isinstance(task, Examined) and not options.brief:
        more = task.evaluate_more(run.state, options.split)
    if options.json:
        print(json.dumps({
            "step": run.step, "split": options.split, "metrics": metrics, "baselines": baselines,
            "more": more,
        }))
        return
    title = f"{workdir}, step {run.step}, {options.split} split"
    print(report_table.to_text({title: task.describe() | metrics | baselines} | more))


if __name__ == "__main__":
    errors.run(main)
