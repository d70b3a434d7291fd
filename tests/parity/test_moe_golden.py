"""The numbers of the original, recomputed; and proof that the comparison notices a difference."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxgraph.errors import UserError
from jaxgraph.interop import torch as interop_torch
from jaxgraph.interop.case import load_case
from jaxgraph.interop.cases.moe import recognises
from jaxgraph.interop.parity import as_table, check_case

FOLDER = Path(__file__).parent / "moe"
ROOT = Path(__file__).parents[2]
CHECKED = {
    "p1_gnn_forward": "",
    "p2_hgnn_pairs_e3": "",
    "p3_ghost_sequence": "",
    "p4_rotator_geometric": "",
    "p5_train_hgnn": "",
    "p6_checkpoint_ghost": "",
    "p7_older_design": "",
}
"""Cases that must pass, and how the names begin of what may stay unchecked in them."""


def golden(name):
    return load_case(FOLDER / f"{name}.npz")


@pytest.mark.parametrize("name", CHECKED)
def test_golden_cases_agree(name):
    checks = check_case(golden(name))
    assert checks.ok, as_table([checks])
    for left in checks.unchecked:
        assert CHECKED[name] and left.startswith(CHECKED[name])


@pytest.mark.parametrize("name", CHECKED)
def test_every_checked_entry_notices_a_thousandth(name):
    case = golden(name)
    expected = [key for key in case.arrays if key.startswith(("out/", "grad"))]
    moved = {key: np.asarray(case.arrays[key] + 1e-3) for key in expected}
    checks = check_case(dataclasses.replace(case, arrays=case.arrays | moved))
    failed = {row.name for row in checks.rows if not row.ok}
    assert failed == {key for key in expected if key not in checks.unchecked}
    assert failed


def test_gradients_that_must_be_zero_are_checked():
    case = golden("p2_hgnn_pairs_e3")
    rows = {row.name: row for row in check_case(case).rows}
    for key in case.meta["grad_none"]:
        assert rows[f"grad/{key}"].tol == 0
    meta = case.meta | {"grad_none": ["output_norm.weight", "router.weight"]}
    checks = check_case(dataclasses.replace(case, meta=meta))
    failed = {row.name for row in checks.rows if not row.ok}
    assert failed == {"grad/output_norm.weight", "grad/router.weight"}


def test_weights_that_must_not_move_are_checked():
    case = golden("p5_train_hgnn")
    key = "model_layers.0.primary_experts.0.ffn.0.weight"
    meta = case.meta | {"legacy_unchanged": [key]}
    checks = check_case(dataclasses.replace(case, meta=meta))
    assert [row.name for row in checks.rows if not row.ok] == [f"out/legacy/final/{key}"]


def test_a_checkpoint_without_torch_or_file_is_named_and_fails(monkeypatch, tmp_path):
    shutil.copy(FOLDER / "p6_checkpoint_ghost.npz", tmp_path)
    alone = check_case(load_case(tmp_path / "p6_checkpoint_ghost.npz"))
    monkeypatch.setitem(sys.modules, "torch", None)
    assert not interop_torch.has_torch()
    for checks in (alone, check_case(golden("p6_checkpoint_ghost"))):
        assert not checks.ok and checks.unchecked == ["out/logits", "out/loss"]
    # Everything else needs no PyTorch.
    assert check_case(golden("p1_gnn_forward")).ok


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in/input_ids": None}, "no entry 'in/input_ids'"),
        ({"in/input_ids": np.full((2, 9), 61)}, "leaves the vocabulary 0 to 60"),
        ({"in/input_ids": np.full((2, 9), -1)}, "leaves the vocabulary"),
        ({"in/input_ids": np.zeros((2, 17), int)}, "longer than 16 positions"),
        ({"in/input_ids": np.zeros((2, 9))}, "not token ids"),
        ({"in/attention_mask": np.ones((1, 9), int)}, "has shape (1, 9); expected (2, 9)"),
        ({"in/labels": np.ones((2, 8), int)}, "has shape (2, 8); expected (2, 9)"),
        ({"param/lm_head.bias": None}, "missing key lm_head.bias"),
        ({"param/lm_head.bias": np.zeros(60, "f4")}, "shape [60]; expected [61]"),
        ({"param/extra": np.zeros(1)}, "unexpected key extra"),
    ],
)
def test_malformed_cases_are_refused(changes, words):
    case = golden("p1_gnn_forward")
    arrays = {k: v for k, v in (case.arrays | changes).items() if v is not None}
    with pytest.raises(UserError) as caught:
        check_case(dataclasses.replace(case, arrays=arrays))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["learning_rate", "max_steps"])
def test_training_cases_need_their_settings(name):
    case = golden("p5_train_hgnn")
    meta = case.meta | {"config": case.meta["config"] | {name: None}}
    with pytest.raises(UserError, match=f"{name} in the config of .* is None"):
        check_case(dataclasses.replace(case, meta=meta))


def test_cases_of_other_systems_are_left_to_them():
    case = golden("p1_gnn_forward")
    assert recognises(case)
    assert not recognises(dataclasses.replace(case, meta={"kind": "real", "cfg": {}}))


def parity(*args):
    command = [sys.executable, "scripts/parity.py", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
}


def test_the_command_prints_json_and_fails_on_one_wrong_number(tmp_path):
    arrays = dict(np.load(FOLDER / "p1_gnn_forward.npz"))
    arrays["out/logits"][1, 3, 5] += 1e-3
    np.savez(tmp_path / "wrong.npz", **arrays)
    done = parity(FOLDER / "p1_gnn_forward.npz", tmp_path / "wrong.npz", "--json")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report.keys() == {"ok", "cases"} and report["ok"] is False
    good, wrong = report["cases"]
    assert good["ok"] is True and wrong["ok"] is False
    assert good.keys() == {"file", "ok", "checked", "unchecked", "rows"}
    assert good["checked"] == len(good["rows"]) and good["unchecked"] == []
    assert [row["name"] for row in wrong["rows"] if not row["ok"]] == ["out/logits"]
    assert good["rows"][0].keys() == {"name", "max_abs", "max_rel", "tol", "ok"}


def test_the_command_fails_where_nothing_can_be_checked_or_read(tmp_path):
    arrays = dict(np.load(FOLDER / "p1_gnn_forward.npz"))
    meta = json.loads(str(arrays["config"])) | {"kind": "unheard of"}
    np.savez(tmp_path / "new.npz", **(arrays | {"config": json.dumps(meta)}))
    done = parity(tmp_path / "new.npz")
    assert done.returncode == 1
    assert "nothing of this case could be checked" in done.stdout
    assert "not checked: out/logits" in done.stdout
    (tmp_path / "cut.npz").write_bytes((FOLDER / "p1_gnn_forward.npz").read_bytes()[:100_000])
    for path, words in ((tmp_path / "cut.npz", "cut.npz"), ("none.npz", "no such file")):
        done = parity(FOLDER / "p1_gnn_forward.npz", path)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("error: ") and words in done.stderr
