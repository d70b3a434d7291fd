"""Our step against the PyTorch reference's on the same shapes, weights and batch:

  python scripts/benchmark.py moe [--json FILE] [--tokens 128,512] [--modes gnn,ghost_awake]
  python scripts/benchmark.py vae [--json FILE] [--batches 64,1024] [--kinds real,complex]
  python scripts/benchmark.py neurograph [--json FILE] [--works faithful_train,learning_train]
  python scripts/benchmark.py latentwire [--json FILE] [--works step,lm,decode]

Steps of real configs on GPUs, without the reference (`benchmark.py gpu --help`):

  python scripts/benchmark.py gpu [--json FILE] [--configs configs/moe.yaml,configs/vae_rm0.yaml]

Each row starts a fresh process for each side, on the same cores and with as many threads, checks
that both give the same loss, and then runs them in turns, so that both see the same load. Times are
medians; peak memory is that of the row's own process, start and compilation included.
Exit code 0: every row was measured. 1: a row failed (its reason stands in it). 2: wrong argument.
"""

import argparse
import json
import os
from pathlib import Path
from typing import NoReturn

from bench import machine, real
from bench.arguments import count, one_of
from bench.pair import measure
from bench.process import RowError
from bench.rates import FORMULA
from bench.rows import SYSTEMS, Row
from bench.table import HEAD, NOTES, as_line

from jaxgraph.errors import UserError, run

NUMBERS = "ours_ms reference_ms ratio per_second ours_peak_mb reference_peak_mb compile_s".split()
"""Of every row, None where there is none."""


class Parser(argparse.ArgumentParser):
    """Ends as every wrong input of ours does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def main(argv: list[str]) -> int:
    if argv[:1] == ["gpu"]:
        return real.main(argv[1:])
    system = next((part for part in argv if part in SYSTEMS), None)
    args = make_parser(system).parse_args(argv)
    if args.json and not args.json.absolute().parent.is_dir():
        raise UserError(f"--json: the folder of {args.json} does not exist")
    rows = make_rows(args)
    about = machine.describe(args.threads)
    print(machine.as_line(about), NOTES, HEAD, sep="\n", flush=True)
    settings = {name: value for name, value in vars(args).items() if name != "json"}
    report = {"system": args.system, "machine": about, "settings": settings, "rows": []}
    for row in rows:
        try:
            result = {"name": row.name} | measure(row, args.repeats)
        except RowError as error:
            result = {"name": row.name, "error": str(error)} | dict.fromkeys(NUMBERS)
        report["rows"].append(result)
        print(as_line(result), flush=True)
        if args.json:  # each time: rows take minutes, and may be interrupted
            args.json.write_text(json.dumps(report, indent=1) + "\n")
    if any(result.get("mfu") is not None for result in report["rows"]):
        print(FORMULA)
    return int(any("error" in result for result in report["rows"]))


def make_parser(system: str | None) -> Parser:
    """The command's options, and those of the system."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", type=one_of(SYSTEMS), help=f"one of: {', '.join(SYSTEMS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    parser.add_argument("--repeats", type=count, help="measured calls of each side (7)")
    parser.add_argument("--threads", type=count, help="of each side (2, or the cores there are)")
    parser.add_argument(
        "--quick", action="store_true", help="a tiny model and few calls: a test, no measurement"
    )
    if system:
        SYSTEMS[system].add_arguments(parser)
    return parser


def make_rows(args: argparse.Namespace) -> list[Row]:
    """The rows to measure; fills in what the command left open."""
    cores, system = len(os.sched_getaffinity(0)), SYSTEMS[args.system]
    full = {"repeats": 7, "threads": min(2, cores)} | system.FULL
    quick = full | {"repeats": 2} | system.SMALL
    for name, value in (quick if args.quick else full).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.threads > cores:
        raise UserError(f"--threads: {args.threads} is above the {cores} cores usable here")
    return system.make_rows(args)


if __name__ == "__main__":
    run(main)
