"""Draws what a run logged:  python scripts/plot.py runs/moe

Writes PNG files and one page, index.html, that needs no network; works while the run goes on.
"""

import argparse
from pathlib import Path

from jaxgraph import errors


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="workdir of the run")
    parser.add_argument("--out", type=Path, help="folder for the report; RUN/report by default")
    options = parser.parse_args(argv)

    from jaxgraph.plots.report import write_report

    report = write_report(options.run, options.out)
    for one in report.left_out:
        print(f"left out: {one.title} ({one.reason})")
    print(f"{len(report.drawn)} figures: {report.page}")


if __name__ == "__main__":
    errors.run(main)
