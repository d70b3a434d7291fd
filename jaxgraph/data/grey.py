"""Grey images with labels in three splits, from a named source or from files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from jaxgraph.data.assets import IDX, asset_file, find_asset
from jaxgraph.data.image_files import Arrays, check_images, read_idx, read_image_npz
from jaxgraph.data.text import SplitName
from jaxgraph.errors import UserError


@dataclass(frozen=True)
class GreySplit:
    """Images of a split."""

    pixels: UInt8[np.ndarray, "n h w"]
    """0 to 255, as stored."""
    labels: Int32[np.ndarray, " n"]


@dataclass(frozen=True)
class GreyImages:
    """Images in three splits; `description` and `licence` say which."""

    splits: dict[SplitName, GreySplit]
    description: str
    licence: str


def load_grey(source: str, validation: int) -> GreyImages:
    """Reads images; there is no fallback to another source.

    - `mnist`, `fashion-mnist`: the asset of that name, 60000 and 10000 images of 28 x 28.
    - `a.npz`: arrays of one file, see `read_image_npz`.
    - `a,b,c,d`: four idx files: training images and labels, test images and labels.

    Args:
      source: as above.
      validation: the last so many training images are held out. (For MNIST, 10000 gives the usual
        50000, 10000 and 10000.)

    Raises:
      UserError: the source is unknown, missing or malformed, or too small for `validation`.
    """
    licence, arrays = _find(source)
    train = check_images(*arrays[:2], "training")
    test = check_images(*arrays[2:], "test")
    if train[0].shape[1:] != test[0].shape[1:]:
        raise UserError(
            f"{source}: training images are of {train[0].shape[1:]} pixels, "
            f"test images of {test[0].shape[1:]}"
        )
    if validation >= len(train[0]):
        raise UserError(
            f"validation {validation} leaves nothing of {len(train[0])} training images"
        )
    cut = len(train[0]) - validation
    parts = {
        "train": tuple(array[:cut] for array in train),
        "validation": tuple(array[cut:] for array in train),
        "test": test,
    }
    splits = {
        name: GreySplit(pixels, labels.astype(np.int32)) for name, (pixels, labels) in parts.items()
    }
    counts = ", ".join(f"{len(split.labels)} {name}" for name, split in splits.items())
    height, width = test[0].shape[1:]
    return GreyImages(splits, f"{source}, {height} x {width}: {counts}", licence)


def _find(source: str) -> tuple[str, Arrays]:
    if source in ("mnist", "fashion-mnist"):
        end = ".gz" if source == "fashion-mnist" else ""
        a, b, c, d = (read_idx(asset_file(source, name + end)) for name in IDX)
        return find_asset(source).licence, (a, b, c, d)
    paths = [Path(name.strip()) for name in source.split(",")]
    if len(paths) == 1 and paths[0].suffix == ".npz":
        return "the file's own", read_image_npz(paths[0])
    if len(paths) == 4:
        a, b, c, d = map(read_idx, paths)
        return "the files' own", (a, b, c, d)
    raise UserError(
        f"unknown image source {source!r}; allowed: mnist, fashion-mnist, the path of an .npz, or "
        "four idx files TRAIN-IMAGES,TRAIN-LABELS,TEST-IMAGES,TEST-LABELS"
    )
