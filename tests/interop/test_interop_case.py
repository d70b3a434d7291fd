"""Golden cases: comparisons that cannot be fooled, files that cannot crash."""

import dataclasses
import json
import pathlib
import zipfile

import numpy as np
import pytest

from jaxgraph.errors import UserError
from jaxgraph.interop.case import Case, Checks, load_case
from jaxgraph.interop.parity import check_case
from jaxgraph.interop.tolerances import TOLERANCES


def case(**arrays):
    return Case(
        pathlib.Path("a.npz"),
        {name.replace("__", "/"): np.asarray(x) for name, x in arrays.items()},
        {},
    )


def compare(expected, ours, kind="value"):
    checks = Checks(case(out__x=expected))
    checks.compare("out/x", ours, kind)
    return checks


@pytest.mark.parametrize(
    ("expected", "ours", "ok"),
    [
        ([1.0, 2.0], [1.0, 2.000009], True),
        ([1.0, 2.0], [1.0, 2.00002], False),
        ([1.0, 2.0], [1.0, np.nan], False),
        ([1.0, np.nan], [1.0, np.nan], False),
        ([np.inf], [np.inf], False),
        # Broadcasting would agree.
        ([1.0, 1.0], [1.0], False),
        ([[1.0]], [1.0], False),
        (np.zeros((0, 2)), np.zeros((0, 2)), True),
    ],
)
def test_verdicts(expected, ours, ok):
    assert compare(expected, ours).ok is ok


def test_exact_means_exact():
    assert compare([1, 2], np.array([1.0, 2.0], np.float32), "exact").ok
    assert not compare([1.0], [1.0 + 1e-15], "exact").ok


def test_errors_are_told_absolute_and_relative_to_the_largest_value():
    [row] = compare([4.0, 0.0], [4.5, 1.0]).rows
    assert (row.max_abs, row.max_rel, row.tol) == (1.0, 0.25, TOLERANCES["value"])


def test_what_nobody_compared_is_named():
    checks = Checks(case(out__x=1, out__y=1, grad__w=1, grad_in__x=1, in__z=1, param__w=1))
    assert not checks.ok
    checks.compare("out/x", 1, "value")
    checks.compare("out/absent", 1, "value")
    assert checks.ok and len(checks.rows) == 1
    assert checks.unchecked == ["grad/w", "grad_in/x", "out/y"]


def test_json_has_no_nan():
    text = json.dumps(compare([1.0], [np.nan]).as_dict(), allow_nan=False)
    assert json.loads(text) == {
        "file": "a.npz",
        "ok": False,
        "checked": 1,
        "unchecked": [],
        "rows": [{"name": "out/x", "max_abs": None, "max_rel": None, "tol": 1e-5, "ok": False}],
    }


def test_unreadable_files(tmp_path):
    good = tmp_path / "good.npz"
    np.savez(good, config=np.array("{}"), a=np.arange(1000.0))
    load_case(good)
    broken = {
        "cut": good.read_bytes()[:2000],
        "flipped": good.read_bytes()[:1000] + b"x" * 500 + good.read_bytes()[1500:],
        "empty": b"",
        "text": b"hello",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "array.npy", np.arange(3))
    np.savez(tmp_path / "pickle.npz", config=np.array("{}"), a=np.array([{}], object))
    np.savez(tmp_path / "not_json.npz", config=np.array("{"))
    np.savez(tmp_path / "list.npz", config=np.array("[]"))
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("config", "hello")
    for path in {p for p in tmp_path.iterdir() if p != good} | {tmp_path / "none", tmp_path}:
        with pytest.raises(UserError) as caught:
            load_case(path)
        assert str(path) in str(caught.value)


def test_formats_of_nobody_are_refused(tmp_path):
    with pytest.raises(UserError, match="no system of ours"):
        check_case(case(out__x=1))
    np.savez(tmp_path / "no_config.npz", a=np.arange(3))
    with pytest.raises(UserError, match="no system of ours knows the format of .*no_config"):
        check_case(load_case(tmp_path / "no_config.npz"))
    with pytest.raises(UserError, match="no object `config`"):
        check_case(dataclasses.replace(case(out__x=1), meta={"kind": "forward"}))
    assert not check_case(dataclasses.replace(case(out__x=1), meta={"kind": "dream"})).ok
