"""Grey images with labels in three splits, from a named source or from files."""

from dataclasses import dataclass
from pathlib import Path

import grain
import numpy as np
from jaxtyping import Int32, UInt8

from jaxgraph.data.assets import IDX, asset_file, find_asset
from jaxgraph.data.config import GreyData
from jaxgraph.data.image_files import Arrays, check_images, read_idx, read_image_npz
from jaxgraph.data.installed_images import TABLES, read_table
from jaxgraph.data.rows import row_batches
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
    - `mnist-5k`, `digits`: small sets inside installed packages, see `installed_images`.
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


def load_labelled(config: GreyData) -> GreyImages:
    """Grey images as the config says: some of the training split, perhaps with wrong labels.

    Raises:
      UserError: see `load_grey`; or there are fewer training images than the config wants.
    """
    images = load_grey(config.source, config.validation)
    train = images.splits["train"]
    if config.train > len(train.labels):
        raise UserError(
            f"task.data.train: got {config.train}; allowed: 0 to {len(train.labels)}, the images "
            "that validation leaves"
        )
    keep = config.train or len(train.labels)
    labels, description = train.labels[:keep], images.description
    if config.train:
        description += f"; the first {keep} of them"
    if config.permute_labels:
        raw = np.random.Philox(key=np.array([1, keep], np.uint64)).random_raw(keep)
        labels = labels[np.argsort(raw, kind="stable")]
        description += "; TRAINING LABELS PERMUTED"
    splits = images.splits | {"train": GreySplit(train.pixels[:keep], labels)}
    return GreyImages(splits, description, images.licence)


def grey_batches(
    images: GreyImages,
    split: SplitName,
    *,
    batch_size: int,
    seed: int,
    draws: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> grain.MapDataset:
    """Batches of `image` uint8 ``[b, h, w]``, `label` int32 ``[b]``, `mask` float32 ``[b]``.

    `train` is endless and shuffled anew each epoch, or drawn batch by batch; `validation` and
    `test` run once in order; see `row_batches` for `draws`, `shard` and errors.
    """
    held = images.splits[split]
    if not len(held.labels):
        raise UserError(f"the {split} split is empty: validation is 0; give it a number above 0")
    return row_batches(
        {"image": held.pixels, "label": held.labels},
        endless=split == "train",
        batch_size=batch_size,
        seed=seed,
        shard=shard,
        draws=draws,
    )


def _find(source: str) -> tuple[str, Arrays]:
    if source in ("mnist", "fashion-mnist"):
        end = ".gz" if source == "fashion-mnist" else ""
        a, b, c, d = (read_idx(asset_file(source, name + end)) for name in IDX)
        return find_asset(source).licence, (a, b, c, d)
    if source in TABLES:
        return TABLES[source].licence, read_table(source)
    paths = [Path(name.strip()) for name in source.split(",")]
    if len(paths) == 1 and paths[0].suffix == ".npz":
        return "the file's own", read_image_npz(paths[0])
    if len(paths) == 4:
        a, b, c, d = map(read_idx, paths)
        return "the files' own", (a, b, c, d)
    raise UserError(
        f"unknown image source {source!r}; allowed: mnist, fashion-mnist, mnist-5k, digits, the "
        "path of an .npz, or four idx files TRAIN-IMAGES,TRAIN-LABELS,TEST-IMAGES,TEST-LABELS"
    )
