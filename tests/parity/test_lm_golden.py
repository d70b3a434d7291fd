"""The numbers of the original's language model, recomputed; and proof that each is compared."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxgraph.errors import UserError
from jaxgraph.interop import case as cases
from jaxgraph.interop.case import Checks, load_case
from jaxgraph.interop.cases import latentwire_lm
from jaxgraph.interop.parity import as_table, check_case

CASE = Path(__file__).parent / "latentwire" / "qwen_a_lm.npz"
"""The public case `qwen_a` without its heads and two of its larger arrays."""


@pytest.fixture(scope="module")
def recorded():
    """The checks of the case, and our value of every entry."""
    found = {}

    class Recorder(Checks):
        def compare_with(self, name, ours, expected, kind):
            found[name] = np.asarray(ours), np.asarray(expected), kind
            super().compare_with(name, ours, expected, kind)

    checks = Recorder(load_case(CASE))
    latentwire_lm.check(checks.case, checks)
    return checks, found


def test_everything_agrees(recorded):
    checks, _ = recorded
    assert checks.ok, as_table([checks])
    assert checks.unchecked == []
    assert len(checks.rows) > 35


def test_every_comparison_notices_an_error(recorded):
    _, found = recorded
    for name, (ours, expected, kind) in found.items():
        wrong = expected.astype(np.float64)
        wrong.flat[-1] += 1e-3 * max(1.0, np.abs(expected).max())
        assert not cases._row(name, ours, wrong, kind).ok, name


def test_a_case_with_another_weight_fails():
    case = load_case(CASE)
    kept = ("lm/", "common/", "greedy_text", "first_auto")
    arrays = {name: array for name, array in case.arrays.items() if name.startswith(kept)}
    name = "lm/model.layers.1.mlp.up_proj.weight"
    arrays[name] = arrays[name] + np.float32(0.3)
    checks = check_case(cases.Case(case.path, arrays, {}))
    assert not checks.ok and not any(row.ok for row in checks.rows if "logits" in row.name)


def test_damaged_descriptions_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", **{"lm/meta": np.array("[1]")})
    with pytest.raises(UserError, match="entry 'lm/meta' of .* holds list, not an object"):
        check_case(load_case(tmp_path / "a.npz"))
    meta = json.dumps({"kind": "gpt2"})
    np.savez(tmp_path / "b.npz", **{"lm/meta": np.array(meta)})
    with pytest.raises(UserError, match="model_type of .* is 'gpt2'"):
        check_case(load_case(tmp_path / "b.npz"))
