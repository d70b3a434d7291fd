"""Text from a trained language model:  python scripts/generate.py --workdir runs/moe --prompt "The"
"""

import argparse
from dataclasses import replace
from pathlib import Path

from jaxgraph import errors, runs


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the run")
    parser.add_argument("--prompt", default="", help="text to continue; empty begins a passage")
    parser.add_argument("--step", default="best", help="best, latest or a step")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws another text")
    parser.add_argument("--tokens", type=int, help="new tokens")
    parser.add_argument("--temperature", type=float, help="0 takes the likeliest token each time")
    parser.add_argument("--top-k", type=int, help="likeliest tokens to draw from; 0: all")
    options = parser.parse_args(argv)
    given = {
        name: getattr(options, name)
        for name in ("tokens", "temperature", "top_k")
        if getattr(options, name) is not None
    }
    for name, low in (("tokens", 1), ("temperature", 0), ("top_k", 0)):
        if not given.get(name, low) >= low:
            raise errors.UserError(f"--{name.replace('_', '-')}: got {given[name]}; at least {low}")
    if not 0 <= options.seed < 2**32:
        raise errors.UserError(f"--seed: got {options.seed}; allowed: 0 to {2**32 - 1}")
    run = runs.open_run(options.workdir, options.step)
    if not hasattr(run.task, "generate"):
        raise errors.UserError(f"{options.workdir}: the system {run.config.system} writes no text")
    sampling = replace(run.config.task.sampling, **given)
    print(options.prompt + run.task.generate(run.state, options.prompt, sampling, options.seed))


if __name__ == "__main__":
    errors.run(main)
