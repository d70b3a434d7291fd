"""Golden cases: numbers recorded from the originals, and comparisons with them.

A case is an `.npz` file: parameters and inputs, expected results (`out/...`, `grad...`), and where
the system has one a text entry `config` (JSON).
"""

import json
import math
import pathlib
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxgraph.errors import UserError
from jaxgraph.interop.tolerances import tolerance


@dataclass(frozen=True)
class Case:
    """One golden file."""

    path: pathlib.Path
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    """The parsed `config` entry; empty in cases that describe themselves otherwise."""

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise UserError(f"{self.path} has no entry {name!r}; is it a golden case?")
        return self.arrays[name]

    def shaped(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The entry, which must have this shape: JAX would broadcast many a wrong one."""
        if self[name].shape != shape:
            raise UserError(f"{name} of {self.path} has shape {self[name].shape}; expected {shape}")
        return self[name]

    def meta_of(self, part: str) -> dict[str, Any]:
        """The object under ``PART/meta``."""
        return _parse(f"{part}/meta", self[f"{part}/meta"], self.path)

    def below(self, prefix: str) -> dict[str, np.ndarray]:
        """Entries whose names start with the prefix, without it."""
        return {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}


@dataclass(frozen=True)
class Row:
    """One comparison. `max_rel` is the largest error over the largest expected magnitude, since
    elementwise ratios say nothing next to a zero. `tol` is the largest limit of any element, or
    where one failed, the limit that was passed the furthest."""

    name: str
    max_abs: float
    max_rel: float
    tol: float
    ok: bool


@dataclass
class Checks:
    """Comparisons of one case with what it expects."""

    case: Case
    rows: list[Row] = field(default_factory=list)
    expects: tuple[str, ...] = ("out/", "grad")
    """How the names of expected results begin."""
    given: set[str] = field(default_factory=set)
    """Names that begin so and are no results."""

    def compare(self, name: str, ours: Any, kind: str) -> None:
        """Compares an entry with our value; an entry that the case does not have is passed over."""
        if name in self.case.arrays:
            self.compare_with(name, ours, self.case.arrays[name], kind)

    def compare_with(self, name: str, ours: Any, expected: Any, kind: str) -> None:
        """Compares any two arrays under the name of an entry."""
        self.rows.append(_row(name, np.asarray(ours), np.asarray(expected), kind))

    @property
    def unchecked(self) -> list[str]:
        """Expected results that nobody compared."""
        seen = {row.name for row in self.rows}
        expected = (name for name in self.case.arrays if name.startswith(self.expects))
        return sorted(name for name in expected if name not in seen | self.given)

    @property
    def ok(self) -> bool:
        return bool(self.rows) and all(row.ok for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """The case's part of the command's JSON; a number that is not finite becomes null."""
        finite = lambda x: x if math.isfinite(x) else None  # noqa: E731
        rows = [
            vars(row) | {"max_abs": finite(row.max_abs), "max_rel": finite(row.max_rel)}
            for row in self.rows
        ]
        return {
            "file": str(self.case.path),
            "ok": self.ok,
            "checked": len(rows),
            "unchecked": self.unchecked,
            "rows": rows,
        }


def load_case(path: str | pathlib.Path) -> Case:
    """Reads a golden file; never unpickles."""
    if pathlib.Path(path).suffix == ".json":
        return load_json(path)
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, AttributeError, TypeError, NotImplementedError) as error:
        raise UserError(f"{path} is not an .npz file of plain arrays ({error})") from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged or cut short ({error}); copy it again") from error
    if "config" not in arrays:
        return Case(pathlib.Path(path), arrays, {})
    return Case(pathlib.Path(path), arrays, _parse("config", arrays["config"], path))


def load_json(path: str | pathlib.Path) -> Case:
    """Reads a golden file of texts: `meta` is all of it, and `arrays` holds each value of each
    entry, as JSON under ``SECTION/NUMBER/NAME``."""
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a JSON file ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}, not an object")
    arrays = {
        f"{section}/{i}/{name}": np.array(json.dumps(value))
        for section, entries in content.items()
        for i, entry in enumerate(entries if isinstance(entries, list) else [entries])
        if isinstance(entry, dict)
        for name, value in entry.items()
    }
    return Case(pathlib.Path(path), arrays, content)


def _parse(name: str, entry: Any, path: str | pathlib.Path) -> dict[str, Any]:
    try:
        meta = json.loads(str(entry))
    except json.JSONDecodeError as error:
        raise UserError(f"entry {name!r} of {path} is not JSON ({error})") from error
    if not isinstance(meta, dict):
        raise UserError(f"entry {name!r} of {path} holds {type(meta).__name__}, not an object")
    return meta


def _row(name: str, ours: np.ndarray, expected: np.ndarray, kind: str) -> Row:
    expected = expected.astype(np.float64)
    scale = float(np.abs(expected).max(initial=0.0))
    limits = tolerance(kind, expected)
    if ours.shape != expected.shape:
        return Row(name, math.inf, math.inf, float(limits.max(initial=0.0)), False)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is no agreement
        errors = np.abs(ours.astype(np.float64) - expected)
    ok = bool((errors <= limits).all())
    tol = float(limits.max(initial=0.0))
    if expected.size:
        # A failure is shown by the limit that was passed the furthest.
        with np.errstate(over="ignore"):  # a limit of 0 was passed infinitely far
            worst = np.argmax(errors / np.maximum(limits, 1e-300))
        errors, tol = (errors, tol) if ok else (errors, float(limits.flat[worst]))
    max_abs = float(errors.max(initial=0.0))
    return Row(name, max_abs, max_abs / max(scale, 1e-30), tol, ok)
