"""Arrays that are slow to make, kept on disk under the hash of what they are made from."""

import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from jaxgraph.data.assets import assets_dir


def content_key(parts: Iterable[str]) -> str:
    """SHA-256 over the parts and where each ends."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8) + encoded)
    return digest.hexdigest()


def cache_path(kind: str, key: str) -> Path:
    """Where `cached_arrays` keeps something."""
    return assets_dir().parent / "tokens" / f"{kind}-{key}.npz"


def cached_arrays(
    kind: str, key: str, make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays of `make`, out of the cache if they are there and whole.

    A damaged file (npz members carry checksums) is made anew, and a folder that cannot be written
    is done without; either prints a warning.

    Args:
      kind: first part of the file name.
      key: `content_key` of everything that `make` depends on.
      make: makes named arrays.
    """
    path = cache_path(kind, key)
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        pass
    except Exception as error:  # a damaged zip raises nearly anything
        _warn(f"{path} is damaged ({error}); making it anew")
    arrays = make()
    try:
        _write(path, arrays)
    except OSError as error:
        _warn(f"{path} cannot be written ({error}); it will be made again next time")
    return arrays


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as scratch:
        np.savez(Path(scratch) / path.name, allow_pickle=False, **arrays)
        (Path(scratch) / path.name).replace(path)


def _warn(message: str) -> None:
    print(f"warning: cache {message}", file=sys.stderr)
