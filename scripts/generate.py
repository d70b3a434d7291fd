"""Text from a trained model:

  python scripts/generate.py --workdir runs/moe --prompt "The"
  python scripts/generate.py --config configs/smoke/latentwire.yaml --text "..." --question "..."

The second is for latentwire: what its frozen models answer that hear text and question through the
trained wire, and nothing else of them.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from jaxgraph import config as configs
from jaxgraph import errors, runs

SAMPLING = {"tokens": 1, "temperature": 0, "top_k": 0}
"""Options of a continuation, and their least values."""


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--workdir", type=Path, help="folder of the run")
    which.add_argument("--config", type=Path, help="config file whose workdir is the run")
    parser.add_argument("--step", default="best", help="best, latest or a step")
    parser.add_argument("--prompt", help="text to continue; empty begins a passage")
    parser.add_argument("--seed", type=int, help="another seed draws another text (0)")
    parser.add_argument("--tokens", type=int, help="new tokens")
    parser.add_argument("--temperature", type=float, help="0 takes the likeliest token each time")
    parser.add_argument("--top-k", type=int, help="likeliest tokens to draw from; 0: all")
    parser.add_argument("--text", help="what goes over the wire")
    parser.add_argument("--question", help="goes with it")
    options = parser.parse_args(argv)
    given = {
        name: value for name, value in vars(options).items()
        if value is not None and name not in ("workdir", "config", "step")
    }  # fmt: skip
    check(given)
    workdir = options.workdir or Path(configs.load(["--config", str(options.config)]).workdir)
    run = runs.open_run(workdir, options.step)
    system, wired = run.config.system, hasattr(run.task, "answer")
    if not wired and not hasattr(run.task, "generate"):
        raise errors.UserError(f"{workdir}: the system {system} writes no text")
    allowed = ("text", "question") if wired else ("prompt", "seed", *SAMPLING)
    wrong = [f"--{name.replace('_', '-')}" for name in given if name not in allowed]
    if wrong or (wired and not any(value.strip() for value in given.values())):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in allowed)
        got = ", ".join(wrong) or "neither of them"
        raise errors.UserError(f"{workdir} is a run of {system}: got {got}; allowed: {names}")
    if wired:
        answers = run.task.answer(run.state, given.get("text", ""), given.get("question", ""))
        for name, answer in answers.items():
            print(f"{name}: {answer}")
        return
    sampling = replace(
        run.config.task.sampling, **{name: given[name] for name in SAMPLING if name in given}
    )
    prompt = given.get("prompt", "")
    print(prompt + run.task.generate(run.state, prompt, sampling, given.get("seed", 0)))


def check(given: dict) -> None:
    """Refuses values that no run takes."""
    for name, low in SAMPLING.items():
        if not given.get(name, low) >= low:
            raise errors.UserError(f"--{name.replace('_', '-')}: got {given[name]}; at least {low}")
    if not 0 <= given.get("seed", 0) < 2**32:
        raise errors.UserError(f"--seed: got {given['seed']}; allowed: 0 to {2**32 - 1}")


if __name__ == "__main__":
    errors.run(main)
