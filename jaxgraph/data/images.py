"""Black and white images as packed bits, and their batches.

Three ways from grey to bits are in use, and likelihoods of one cannot be compared with those of
another. *Static*: each pixel drawn once as a coin with its grey value as probability, fixed for
ever (Larochelle and Murray 2011; Salakhutdinov and Murray 2008): "binary MNIST" in the
tables of pythae, which read Larochelle's files, 50000, 10000 and 10000 images. Those files come
with no package, so the coins here are tossed anew, by `pool_seed`: the same distribution, other
pixels. *Dynamic*: new coins in each training batch (held-out images stay static). *Threshold*: no
coins, and much lower likelihoods.
"""

from dataclasses import dataclass

import grain
import numpy as np
from jaxtyping import Int32, UInt8

from jaxgraph.data.config import ImagesData
from jaxgraph.data.grey import GreySplit, load_grey
from jaxgraph.data.rows import Row, row_batches
from jaxgraph.data.text import SplitName
from jaxgraph.errors import UserError

THRESHOLD = 128
IMAGES_A_CALL = 4096


@dataclass(frozen=True)
class ImageSplit:
    """Binary images of a split."""

    bits: UInt8[np.ndarray, "n bytes"]
    """Pixels row by row, eight a byte, the first in bit 0."""
    labels: Int32[np.ndarray, " n"]
    grey: UInt8[np.ndarray, "n pixels"] | None
    """What each training batch draws its bits from, if it does."""


@dataclass(frozen=True)
class Images:
    """Binary images in three splits; `description` and `licence` say which."""

    splits: dict[SplitName, ImageSplit]
    description: str
    licence: str


def load_images(config: ImagesData) -> Images:
    """Reads images and makes them black and white as the config says.

    Raises:
      UserError: the source is unknown, missing or malformed, or an image is no whole number of
        bytes.
    """
    grey = load_grey(config.source, config.validation)
    pixels = grey.splits["train"].pixels[0].size
    if pixels % 8:
        raise UserError(
            f"{config.source}: images of {pixels} pixels do not fill whole bytes; "
            "allowed: a multiple of 8 pixels"
        )
    splits = {
        name: _binary(split, place, config)
        for place, (name, split) in enumerate(grey.splits.items())
    }
    how = config.binarise
    how += "" if how == "threshold" else f", seed {config.pool_seed}"
    return Images(splits, f"{grey.description}; binary ({how})", grey.licence)


def image_batches(
    images: Images,
    split: SplitName,
    *,
    batch_size: int,
    seed: int,
    shard: tuple[int, int] = (0, 1),
) -> grain.MapDataset:
    """Batches of `bits` uint8 ``[b, D/8]``, `label` int32 ``[b]``, `mask` float32 ``[b]``.

    `train` is endless and shuffled anew each epoch, `validation` and `test` run once in order; see
    `row_batches` for `shard` and errors.
    """
    held = images.splits[split]
    if not len(held.labels):
        raise UserError(f"the {split} split is empty: validation is 0; give it a number above 0")
    training = split == "train"
    redrawn = training and held.grey is not None

    def draw(i: int, row: Row) -> Row:
        # Apart from the keys of the order of rows, which are (seed, epoch).
        source = np.random.Philox(key=np.array([seed | 1 << 63, i], np.uint64))
        return {"bits": toss(row.pop("grey"), source)} | row

    return row_batches(
        {"grey" if redrawn else "bits": held.grey if redrawn else held.bits, "label": held.labels},
        endless=training,
        batch_size=batch_size,
        seed=seed,
        shard=shard,
        change=draw if redrawn else None,
    )


def toss(
    grey: UInt8[np.ndarray, "n pixels"], source: np.random.Philox
) -> UInt8[np.ndarray, "n bytes"]:
    """Packed bits that are 1 with probability ``grey / 255``."""
    raw = source.random_raw(-(-grey.size // 4)).astype("<u8").view("<u2")[: grey.size]
    # 16 bits onto 0..254: each value 257 times in 65536, one of them 258 times.
    uniform = (raw.astype(np.uint32) * 255 >> 16).astype(np.uint8).reshape(grey.shape)
    return np.packbits(uniform < grey, axis=1, bitorder="little")


def _binary(split: GreySplit, place: int, config: ImagesData) -> ImageSplit:
    count, height, width = split.pixels.shape
    grey = split.pixels.reshape(count, height * width)
    if config.binarise == "threshold":
        bits = np.packbits(grey >= THRESHOLD, axis=1, bitorder="little")
        return ImageSplit(bits, split.labels, None)
    source = np.random.Philox(key=np.array([config.pool_seed, place], np.uint64))
    parts = [toss(grey[i : i + IMAGES_A_CALL], source) for i in range(0, len(grey), IMAGES_A_CALL)]
    bits = np.concatenate(parts) if parts else np.zeros((0, grey.shape[1] // 8), np.uint8)
    redrawn = config.binarise == "dynamic" and place == 0
    return ImageSplit(bits, split.labels, grey if redrawn else None)
