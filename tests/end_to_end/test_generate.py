"""The command that writes: which options go with which system, without any model."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxgraph import runs
from jaxgraph.errors import UserError
from jaxgraph.moe.config import Sampling

ROOT = Path(__file__).parents[2]
main = runpy.run_path(str(ROOT / "scripts" / "generate.py"))["main"]


class Hearing:
    def answer(self, state, text, question):
        return {"en": f"{text}|{question}"}


class Writing:
    def generate(self, state, prompt, sampling, seed):
        return f" {sampling.tokens} {seed}"


@pytest.fixture
def opened(monkeypatch):
    """A run of either kind; what was asked for."""
    asked = []

    def opens(task):
        config = SimpleNamespace(system="this", task=SimpleNamespace(sampling=Sampling()))

        def open_run(folder, step):
            asked.append((str(folder), step))
            return SimpleNamespace(task=task, config=config, state=None)

        monkeypatch.setattr(runs, "open_run", open_run)
        return asked

    return opens


def test_a_text_and_a_question_go_over_the_wire(opened, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    asked = opened(Hearing())
    main(["--workdir", "a", "--text", "some", "--question", "what"])
    main(["--config", "configs/smoke/latentwire.yaml", "--question", "what", "--step", "7"])
    assert capsys.readouterr().out == "en: some|what\nen: |what\n"
    assert asked == [("a", "best"), ("runs/smoke-latentwire", "7")]


def test_a_prompt_is_continued(opened, capsys):
    opened(Writing())
    main(["--workdir", "a", "--prompt", "To be", "--tokens", "3", "--seed", "5"])
    assert capsys.readouterr().out == "To be 3 5\n"


@pytest.mark.parametrize(("task", "arguments", "message"), [
    (Hearing, ["--prompt", "x"], "got --prompt; allowed: --text, --question"),
    (Hearing, ["--text", " "], "got neither of them; allowed: --text, --question"),
    (Hearing, [], "got neither of them"),
    (Writing, ["--text", "x", "--top-k", "2"], "got --text; allowed: --prompt, --seed, --tokens"),
    (Writing, ["--tokens", "0"], "--tokens: got 0; at least 1"),
    (Writing, ["--top-k", "-1"], "--top-k: got -1; at least 0"),
    (Writing, ["--temperature", "nan"], "--temperature: got nan"),
    (Writing, ["--seed", "-1"], "--seed: got -1; allowed: 0 to"),
    (SimpleNamespace, [], "the system this writes no text"),
])  # fmt: skip
def test_what_does_not_go_together_is_named(opened, task, arguments, message):
    opened(task())
    with pytest.raises(UserError, match=message):
        main(["--workdir", "a", *arguments])
