"""The original's encoders, heads, texts and a training run, recomputed; and that errors show."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxgraph.interop import case as cases
from jaxgraph.interop.case import Case, Checks, load_case
from jaxgraph.interop.parity import SYSTEMS, as_table

FOLDER = Path(__file__).parent / "latentwire"
LAYERS = 6


def whole_run():
    """The public run; the original begins with six copies of one layer, of which one is kept."""
    case = load_case(FOLDER / "train_qwen_aligned_a_part.npz")
    arrays = dict(case.arrays)
    for name in case.arrays:
        if name.startswith("init/") and ".layers.0." in name:
            for i in range(1, LAYERS):
                arrays[name.replace(".layers.0.", f".layers.{i}.")] = arrays[name]
    return Case(case.path, arrays, {})


CASES = {
    "encoders": lambda: load_case(FOLDER / "encoders_a_part.npz"),
    "heads": lambda: load_case(FOLDER / "heads_a_part.npz"),
    "text": lambda: load_case(FOLDER / "text_a.json"),
    "model": lambda: load_case(FOLDER / "qwen_a_heads.npz"),
    "train": whole_run,
}
LEAST = {"encoders": 30, "heads": 60, "text": 75, "model": 20, "train": 40}


SLOW = {"model"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CASES],
)
def recorded(request):
    """The checks of a case, and our value of every entry."""
    case, found = CASES[request.param](), {}

    class Recorder(Checks):
        def compare_with(self, name, ours, expected, kind):
            found[name] = np.asarray(ours), np.asarray(expected), kind
            super().compare_with(name, ours, expected, kind)

    checks = Recorder(case)
    next(system for system in SYSTEMS if system.recognises(case)).check(case, checks)
    return request.param, checks, found


def test_everything_agrees(recorded):
    name, checks, _ = recorded
    assert checks.ok, as_table([checks])
    assert all(entry.endswith("/scale") for entry in checks.unchecked)
    assert len(checks.rows) >= LEAST[name]


def test_every_comparison_notices_an_error(recorded):
    _, _, found = recorded
    for name, (ours, expected, kind) in found.items():
        wrong = np.array(expected, np.float64)
        wrong.flat[-1] += 1e-2 * max(1.0, np.abs(wrong).max())
        assert not cases._row(name, ours, wrong, kind).ok, name


def test_another_weight_shows():
    case = load_case(FOLDER / "heads_a_part.npz")
    arrays = {k: v for k, v in case.arrays.items() if k.startswith("gist/")}
    arrays["gist/param/query"] = arrays["gist/param/query"] * np.float32(1.1)
    case = Case(case.path, arrays, {})
    checks = Checks(case)
    next(system for system in SYSTEMS if system.recognises(case)).check(case, checks)
    assert not checks.ok


def test_a_wrong_text_shows(tmp_path):
    content = json.loads((FOLDER / "text_a.json").read_text())
    content["clean_pred"][0]["out"] += "!"
    path = tmp_path / "text.json"
    path.write_text(json.dumps(content))
    case = load_case(path)
    checks = Checks(case)
    next(system for system in SYSTEMS if system.recognises(case)).check(case, checks)
    assert [row.name for row in checks.rows if not row.ok] == ["clean_pred/0/out"]
