"""The README's code runs, and the tables in the docs are those in the code."""

import re
from pathlib import Path

from jaxgraph.interop.tolerances import TOLERANCES

ROOT = Path(__file__).parent.parent


def test_the_python_blocks_of_the_readme_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    for block in blocks:
        # The loop never ends by itself: training data repeats.
        names = {}
        exec(block + "    if state.step == 3: break\n", names)
        assert names["state"].step == 3 and names["metrics"]["loss"] > 0
        assert names["task"].model.config.num_experts == 8


def test_files_that_the_readme_names_exist():
    text = (ROOT / "README.md").read_text()
    named = re.findall(r"(?:configs|scripts|docs|tests)/[\w/]+\.\w+", text)
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_documented_tolerances_are_those_in_use():
    text = (ROOT / "docs" / "parity.md").read_text()
    rows = re.findall(r"^\| (\w+) \| ([\de.-]+) \|", text, re.M)
    documented = {name: float(value) for name, value in rows if name in TOLERANCES}
    assert documented == TOLERANCES
