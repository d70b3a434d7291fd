"""Every config that ships is one that loads, each with a run folder of its own."""

from pathlib import Path

import pytest

from jaxgraph import config

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT)))
def test_shipped_configs_load_and_name_their_command(path):
    config.load(["--config", str(path)])
    head = path.read_text().split("system:")[0]
    assert "python scripts/train.py --config" in head or "make demo" in head
    assert "# expect:" in head


def test_no_two_configs_share_a_run_folder():
    folders = [config.load(["--config", str(path)]).workdir for path in CONFIGS]
    assert len(set(folders)) == len(folders)
