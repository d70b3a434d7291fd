"""Arrays of images and labels out of files: idx (MNIST's own format, gzip or not) and npz."""

import gzip
import zipfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from jaxgraph.errors import UserError

IDX_UINT8 = 8
KEYS = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
)
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Images and labels to train on, images and labels to test on."""


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """Reads an idx file of bytes; `.gz` is unpacked.

    The format: two zeros, the type, the number of axes, each length as 32 bits big-endian, the
    data.

    Raises:
      UserError: it is missing, damaged, or of another type.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except OSError as error:  # gzip's BadGzipFile is one
        raise UserError(f"{path} cannot be read: {error}") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged or cut short ({error}); copy it again") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != IDX_UINT8:
        raise UserError(f"{path} is no idx file of bytes")
    axes = data[3]
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i]) for i in range(axes))
    begin, size = 4 + 4 * axes, int(np.prod(shape, dtype=object))
    if len(data) != begin + size:
        raise UserError(
            f"{path} is damaged: {max(0, len(data) - begin)} bytes of data instead of {size}"
        )
    return np.frombuffer(data, np.uint8, offset=begin).reshape(shape)


def read_image_npz(path: Path) -> Arrays:
    """Reads an npz file with the arrays that one line of `KEYS` names; never unpickles.

    Raises:
      UserError: it is missing or damaged, or lacks an array.
    """
    try:
        with np.load(path) as file:
            for keys in KEYS:
                if set(keys) <= set(file.files):
                    a, b, c, d = (file[key] for key in keys)
                    return a, b, c, d
            held = ", ".join(file.files)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        raise UserError(f"{path} cannot be read as npz: {error}") from error
    raise UserError(
        f"{path} holds {held}; allowed: the arrays {', '.join(KEYS[0])}, or {', '.join(KEYS[1])}"
    )


def check_images(
    images: np.ndarray, labels: np.ndarray, name: str
) -> tuple[UInt8[np.ndarray, "n h w"], Integer[np.ndarray, " n"]]:
    """The arrays, if they are grey images of bytes with a label each.

    Raises:
      UserError: they are not; `name` says in the message whose they are.
    """
    if images.dtype != np.uint8 or images.ndim != 3 or not images.size:
        raise UserError(
            f"{name} images are {images.dtype} of shape {images.shape}; "
            "allowed: uint8 of shape (n, height, width)"
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise UserError(
            f"{name} labels are {labels.dtype} of shape {labels.shape}; "
            f"allowed: an integer for each of the {len(images)} images"
        )
    return images, labels
