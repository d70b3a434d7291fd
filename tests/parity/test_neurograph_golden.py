"""The numbers of the original NeuroGraph, recomputed; proof that each comparison notices errors."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest

from jaxgraph.errors import UserError
from jaxgraph.interop.case import load_case
from jaxgraph.interop.cases import neurograph_forward, neurograph_train
from jaxgraph.interop.parity import as_table, check_case

FOLDER = Path(__file__).parent / "neurograph"
CASES = sorted(path.stem for path in FOLDER.glob("*.npz"))


def golden(name):
    return load_case(FOLDER / f"{name}.npz")


@pytest.fixture(scope="module", autouse=True)
def compute_once():
    """What only depends on a case's inputs is computed once for all tests of a case."""
    patch = pytest.MonkeyPatch()
    for module, name in ((neurograph_forward, "run_all"), (neurograph_train, "run_samples")):
        known, inner = {}, getattr(module, name)

        @functools.wraps(inner)
        def remember(network, other, known=known, inner=inner):
            key = network.case.path, network.prefix
            if key not in known:
                known[key] = inner(network, other)
            return known[key]

        patch.setattr(module, name, remember)
    yield
    patch.undo()


@functools.cache
def checked(name):
    return check_case(golden(name))


@pytest.mark.parametrize("name", CASES)
def test_golden_cases_agree(name):
    checks = checked(name)
    assert checks.ok, as_table([checks])
    assert checks.unchecked == []


def moved(value):
    """The entry, wrong in its last place only."""
    if value.dtype.kind == "U":
        return np.where(np.arange(value.size).reshape(value.shape) == value.size - 1, "", value)
    wrong = value.copy()
    place = np.unravel_index(np.flatnonzero(~np.isnan(value.astype(float)))[-1], value.shape)
    wrong[place] = ~value[place] if value.dtype == bool else value[place] + 1
    return wrong


def shown(case, key):
    """Whether an entry's last place counts: leftovers of inactive slots do not."""
    mask = next((case[key[: -len(end)] + "act_mask"] for end in ("act_phase", "act_mag")
                 if key.endswith(end)), None)
    return case[key].size and (mask is None or mask[-1, -1])


@pytest.mark.parametrize("name", CASES)
def test_every_checked_entry_notices_one_wrong_number(name):
    case, start = golden(name), checked(name)
    keys = [
        key for key in case.arrays
        if key not in start.given and not key.endswith("_continuous") and shown(case, key)
    ]
    if "ga_json" in keys:
        keys.remove("ga_json")
    wrong = {key: moved(case.arrays[key]) for key in keys}
    checks = check_case(dataclasses.replace(case, arrays=case.arrays | wrong))
    failed = {row.name for row in checks.rows if not row.ok}
    assert set(keys) <= failed


def test_what_nobody_knows_is_named():
    case = golden("tables_32x64")
    extra = {"heading": np.zeros(3)}
    checks = check_case(dataclasses.replace(case, arrays=case.arrays | extra))
    assert checks.ok and checks.unchecked == ["heading"]


def test_a_missing_parameter_is_an_error():
    case = golden("trainstep_canon_30n_128x256")
    arrays = {name: value for name, value in case.arrays.items() if name != "node_mag"}
    with pytest.raises(UserError, match="no entry 'node_mag'"):
        check_case(dataclasses.replace(case, arrays=arrays))
