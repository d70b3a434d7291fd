"""Recomputes golden cases of the originals:  python scripts/parity.py CASE.npz [...] [--json]

Prints every quantity with its error, tolerance and verdict, and names what it does not check.
Exit code 0: all agree. 1: a verdict failed, or a case held nothing to check. 2: unreadable file.
"""

import argparse
import json

from jaxgraph.errors import run


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", metavar="CASE.npz")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    args = parser.parse_args(argv)

    # JAX starts late, so that --help is quick.
    from jaxgraph.interop.parity import as_table, check_files

    results = check_files(args.cases)
    ok = all(checks.ok for checks in results)
    if args.json:
        print(json.dumps({"ok": ok, "cases": [checks.as_dict() for checks in results]}))
    else:
        print(as_table(results))
    return 0 if ok else 1


if __name__ == "__main__":
    run(main)
