"""A trained graph as integers alone, and its evaluation by NumPy without any floating point.

Arithmetic that it needs: additions, multiplications, shifts and comparisons of 32-bit integers, and
table lookups. Edge values have 9 bits, signals 8, sums stay below 2^24 in size.

An npz file (never pickled) of `header` (JSON as bytes), `bits` (all phases, then all magnitudes,
each in as many bits as its table needs), the tables, and the sources of sparse layers.
"""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from jaxgraph.errors import UserError

SILENT = -1
IMAGES_A_CALL = 500
TABLES = ("cos", "sin", "mag", "grey_phase", "grey_mag", "grid_phase", "grid_mag")
VERSION = 1


class Layer(NamedTuple):
    """See `jaxgraph.neurograph.learning.topology.Layer`."""

    kind: str
    name: str
    fan_in: int
    width: int
    parts: int
    patch: int
    stride: int
    down: int
    """Binary digits from sums to the units of the state."""


class IntegerModel:
    """A graph of integers; see `read_model` and `write_model`."""

    def __init__(self, header: dict[str, Any], pairs: dict[str, Any], arrays: dict[str, Any]):
        self.header, self.pairs, self.arrays = header, pairs, arrays
        self.layers = [Layer(**layer) for layer in header["layers"]]
        self._tables = {name: arrays[name].astype(np.int32) for name in TABLES}
        weight, state = header["weight_bits"], header["state_bits"]
        self._parts = header["parts"]
        self._values = {
            key: np.stack(self._phasors(*pair, weight)[: self._parts])
            for key, pair in pairs.items()
        }
        self._grid = self._signals("grid", state)[: self._parts]
        self._greys = self._signals("grey", state)[: self.layers[0].parts]

    def scores(self, images: UInt8[np.ndarray, "b h w"]) -> Int[np.ndarray, "b k"]:
        """Scores of the classes."""
        images = images.astype(np.int32)
        found = [
            self._scores(images[i : i + IMAGES_A_CALL])
            for i in range(0, len(images), IMAGES_A_CALL)
        ]
        return np.concatenate(found)

    def predict(self, images: UInt8[np.ndarray, "b h w"]) -> Int[np.ndarray, " b"]:
        """The first of the classes with the largest score."""
        return self.scores(images).argmax(1)

    def _phasors(self, phase: Any, mag: Any, bits: int) -> tuple[np.ndarray, np.ndarray]:
        tables, down = self._tables, 2 * self.header["table_bits"] - bits
        size = tables["mag"][mag]
        return tuple(
            (tables[name][phase] * size + (1 << (down - 1))) >> down for name in ("cos", "sin")
        )

    def _signals(self, name: str, bits: int) -> np.ndarray:
        mag = self._tables[f"{name}_mag"]
        found = self._phasors(self._tables[f"{name}_phase"], mag, bits)
        return np.stack([np.where(mag == SILENT, 0, part) for part in found])

    def _scores(self, images: Any) -> np.ndarray:
        count = len(images)
        # Real parts before imaginary ones in the last axis, nodes [b, n, parts] in `known`.
        signals = np.moveaxis(self._greys[:, images], 0, -1)
        known = [signals.reshape(count, -1, signals.shape[-1])]
        for layer in self.layers[:-1]:
            arriving = signals if layer.kind == "patches" else _join(known, layer.parts)
            signals = self._gate(self._sums(layer, arriving), layer)
            if self.header["radiation"] and layer is self.layers[-2]:
                signals = self._radiate(signals)
            flat = signals.reshape(count, -1, self._parts, layer.width)
            known.append(np.moveaxis(flat, 2, 3).reshape(count, -1, self._parts))
        readout = self.layers[-1]
        return self._sums(readout, _join(known[-1:], self._parts))[:, : readout.width]

    def _sums(self, layer: Layer, arriving: np.ndarray) -> np.ndarray:
        values = self._values[f"{layer.name}/edge"]
        if layer.kind == "patches":
            arriving = _patches(arriving, layer.patch, layer.stride)
            values = values.reshape(self._parts, layer.patch**2, -1, layer.width)
        elif layer.kind == "sparse":
            shape = (self._parts, arriving.shape[-1] // layer.parts, layer.width)
            dense = np.zeros(shape, np.int32)
            dense[:, self.arrays[f"{layer.name}/sources"], np.arange(layer.width)] = values
            values = dense
        matrix = _as_real(values, layer.parts)
        return arriving @ matrix.reshape(-1, matrix.shape[-1])

    def _gate(self, sums: np.ndarray, layer: Layer) -> np.ndarray:
        own = self._values[f"{layer.name}/own"].reshape(-1)
        shift = self.header["state_bits"] - self.header["weight_bits"] + layer.down
        return self._quantise(sums + (own << shift), layer.down)

    def _quantise(self, sums: np.ndarray, down: int) -> np.ndarray:
        """Signals of the nearest points of the grid; sums are shifted down by so many digits."""
        points = (sums + ((1 << down) >> 1)) >> down
        reach = self.header["reach"]
        parts = np.split(points, self._parts, axis=-1)
        at = np.clip(parts[0], 0, reach)
        if self._parts == 2:
            at = at * (2 * reach + 1) + np.clip(parts[1], -reach, reach) + reach
        return np.concatenate(list(self._grid[:, at]), axis=-1)

    def _radiate(self, signals: np.ndarray) -> np.ndarray:
        count, width = len(signals), signals.shape[-1]
        flat = signals.reshape(count, -1, width)
        weights = self._values["radiation/own"]
        parts = np.stack(np.split(flat, self._parts, axis=-1))
        signs = np.array([1, -1], np.int32)[: self._parts, None, None]
        nodes = flat.shape[1]
        scores = sum(a @ b.T for a, b in zip(parts, weights * signs, strict=True))
        scores[:, np.arange(nodes), np.arange(nodes)] = np.iinfo(np.int32).min
        best = np.argsort(-scores.astype(np.int64), axis=-1, kind="stable")
        best = best[..., : min(self.header["radiation"], nodes - 1)]
        sent = np.zeros_like(scores)
        np.put_along_axis(sent, best, 1, axis=-1)
        sent *= scores > 0
        x = [np.einsum("bsc,bst->btc", part, sent) for part in parts]
        if self._parts == 1:
            sums = x[0] * weights[0]
        else:
            u, v = weights
            sums = np.concatenate([x[0] * u - x[1] * v, x[0] * v + x[1] * u], axis=-1)
        down = self.header["radiation_down"]
        return self._quantise(signals * (1 << down) + sums.reshape(signals.shape), down)


def write_model(path: Path, model: IntegerModel) -> int:
    """Writes the file and returns its size in bytes."""
    header = model.header | {"pairs": {k: list(p.shape) for k, (p, _) in model.pairs.items()}}
    phases, mags = (
        np.concatenate([pair[i].ravel() for pair in model.pairs.values()]) for i in (0, 1)
    )
    bits = np.concatenate([
        _to_bits(phases, _digits(header["phase_bins"])),
        _to_bits(mags, _digits(header["mag_bins"])),
    ])
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    try:
        with open(path, "wb") as file:
            np.savez_compressed(file, header=text, bits=np.packbits(bits), **model.arrays)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}; choose a folder you own") from error
    return path.stat().st_size


def read_model(path: Path) -> IntegerModel:
    """Reads what `write_model` wrote.

    Raises:
      UserError: the file is missing, damaged or of another version.
    """
    try:
        with np.load(path) as file:
            arrays = dict(file)
        header = json.loads(arrays.pop("header").tobytes())
        if header["version"] != VERSION:
            raise UserError(f"{path} is of version {header['version']}; allowed: {VERSION}")
        bits = np.unpackbits(arrays.pop("bits"))
        shapes = header.pop("pairs")
        sizes = [int(np.prod(shape)) for shape in shapes.values()]
        phase_digits, mag_digits = _digits(header["phase_bins"]), _digits(header["mag_bins"])
        cut = sum(sizes) * phase_digits
        phases = _from_bits(bits[:cut], phase_digits)
        mags = _from_bits(bits[cut : cut + sum(sizes) * mag_digits], mag_digits)
        ends = np.cumsum(sizes)[:-1]
        pairs = {
            key: (phase.reshape(shape), mag.reshape(shape))
            for (key, shape), phase, mag in zip(
                shapes.items(), np.split(phases, ends), np.split(mags, ends), strict=True
            )
        }
        return IntegerModel(header, pairs, arrays)
    except (
        OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile,
        zlib.error, AttributeError,
    ) as error:  # fmt: skip
        raise UserError(f"{path} cannot be read as an integer model: {error!r}") from error


def _patches(x: np.ndarray, patch: int, stride: int) -> np.ndarray:
    rows, columns = ((length - patch) // stride + 1 for length in x.shape[1:3])
    windows = np.lib.stride_tricks.sliding_window_view(x, (patch, patch), axis=(1, 2))
    windows = windows[:, ::stride, ::stride][:, :rows, :columns]
    return np.ascontiguousarray(np.moveaxis(windows, 3, -1)).reshape(len(x), rows, columns, -1)


def _join(known: list[np.ndarray], parts: int) -> np.ndarray:
    padded = [np.pad(x, ((0, 0), (0, 0), (0, parts - x.shape[-1]))) for x in known]
    joined = np.concatenate(padded, axis=1)
    return np.moveaxis(joined, 2, 1).reshape(len(joined), -1)


def _as_real(values: np.ndarray, arriving: int) -> np.ndarray:
    if len(values) == 1:
        return values[0]
    real, imaginary = values
    rows = [np.concatenate([real, imaginary], axis=-1)]
    if arriving == 2:
        rows.append(np.concatenate([-imaginary, real], axis=-1))
    return np.concatenate(rows, axis=-2)


def _digits(bins: int) -> int:
    return (bins - 1).bit_length()


def _to_bits(values: np.ndarray, digits: int) -> np.ndarray:
    return (values.astype(np.int64)[:, None] >> np.arange(digits) & 1).astype(np.uint8).ravel()


def _from_bits(bits: np.ndarray, digits: int) -> np.ndarray:
    return (bits.reshape(-1, digits).astype(np.int64) << np.arange(digits)).sum(1).astype(np.int32)
