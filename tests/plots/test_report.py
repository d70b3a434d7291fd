"""The report: every figure that can be drawn, reasons for the others, and nothing from outside."""

import base64
import re
import struct
import sys

import pytest

from jaxgraph import errors
from jaxgraph.plots.figure import TooLittle
from jaxgraph.plots.report import write_report
from jaxgraph.plots.systems import figures_of
from scripts import plot
from tests.plots import runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = runs.write(tmp_path_factory.mktemp("runs") / "a <b>&amp; run")
    return folder, write_report(folder)


def test_a_run_that_logged_everything_gets_every_figure(whole):
    folder, report = whole
    assert report.left_out == []
    names = [figure.name for figure in figures_of("moe")]
    assert [one.name for one in report.drawn] == names and len(set(names)) == len(names) > 20
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    for one in report.drawn:
        png = (folder / "report" / f"{one.name}.png").read_bytes()
        assert png == one.png and png[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", png[16:24])
        assert 500 < width < 2000 and 250 < height < 2000, one.name
        assert base64.b64encode(png).decode() in page
        assert f'<h2 id="{one.name}">' in page
    assert page.count("<img ") == len(names)


def test_the_page_asks_nobody_for_anything_and_escapes_text(whole):
    folder, report = whole
    page = report.page.read_text(encoding="utf-8")
    assert "default-src &#x27;none&#x27;" in page
    for source in re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page):
        assert source.startswith(("data:image/png;base64,", "#")), source
    rest = re.sub(r"base64,[\w+/=]+", "", page)
    assert not re.search(r"https?:|//\w|<script|<link|@import|url\(|<b>", rest)
    assert "a &lt;b&gt;&amp;amp; run" in page


def test_figures_without_metrics_are_listed_with_what_lacks(tmp_path):
    rows = [{"step": step, "train/loss": 5.0 - step / 10} for step in range(1, 5)]
    folder = runs.write(tmp_path / "run", rows)
    (folder / "report").mkdir()
    (folder / "report" / "speed.png").write_text("of an earlier report")
    report = write_report(folder)
    assert [one.name for one in report.drawn] == ["loss"]
    assert {path.name for path in (folder / "report").iterdir()} == {"loss.png", "index.html"}
    reasons = {one.title: one.reason for one in report.left_out}
    assert reasons["Expert load"] == "not logged: train/diagnostics/experts/load/layer_*"
    assert "train/ghosts/unexplained/layer_*" in reasons["Ghosts"]
    page = report.page.read_text(encoding="utf-8")
    assert "train/diagnostics/experts/load/layer_*" in page and "Expert load" in page


def test_too_few_measurements_are_a_reason_and_no_failure(tmp_path):
    rows = [row for row in runs.full_rows() if row["step"] <= 15]
    report = write_report(runs.write(tmp_path / "run", rows))
    reasons = {one.title: one.reason for one in report.left_out}
    assert reasons["Correlation of expert loads"] == (
        "needs 3 measurements, got 1; lower train.diagnostics_every"
    )
    # One measurement is enough for all that does not need several.
    assert set(reasons) == {"Correlation of expert loads", "Perplexity"}
    assert issubclass(TooLittle, Exception) and not issubclass(TooLittle, errors.UserError)


def test_a_system_without_figures_of_its_own_gets_the_general_ones():
    general = {figure.name for figure in figures_of("none")}
    assert "loss" in general and not {"expert_load", "ghost_timeline"} & general


def run_script(monkeypatch, *args) -> int:
    monkeypatch.setattr(sys, "argv", ["plot.py", *map(str, args)])
    with pytest.raises(SystemExit) as ended:
        errors.run(plot.main)
    return ended.value.code


def test_the_script_writes_where_it_is_told_and_says_what_it_left_out(
    tmp_path, monkeypatch, capsys
):
    folder = runs.write(tmp_path / "run", runs.full_rows()[:5])
    assert run_script(monkeypatch, folder, "--out", tmp_path / "there") == 0
    printed = capsys.readouterr().out
    assert str(tmp_path / "there" / "index.html") in printed
    assert "left out: Expert load (not logged: train/diagnostics/experts/load/layer_*)" in printed
    assert (tmp_path / "there" / "loss.png").exists() and not (folder / "report").exists()


@pytest.mark.parametrize("damage, message", [
    ("no folder", "is no folder; name the workdir of a training run"),
    ("no config", "holds no config.yaml"),
    ("bad config", "task.model.widht"),
    ("no metrics", "metrics.jsonl does not exist"),
    ("empty", "holds no metrics yet"),
    ("baseline only", "holds no metrics yet"),
    ("cut in the middle", "line 2: expected a JSON object with a step and numbers, got '{\"step\""),
    ("a list", "line 3: expected a JSON object"),
    ("a text", "line 2: expected a JSON object"),
    ("no step", "line 1: expected a JSON object"),
    ("binary", "cannot read"),
    ("out is a file", "--out: cannot write"),
])
def test_what_cannot_be_read_ends_with_one_message_and_code_2(
    damage, message, tmp_path, monkeypatch, capsys
):
    folder, good = tmp_path / "run", '{"step": 1, "train/loss": 2.0}\n'
    text = {
        "empty": "", "baseline only": '{"step": 0, "baseline/x": 1.0}\n',
        "cut in the middle": good + '{"step": 2, "tra\n' + good,
        "a list": good + good + "[1, 2]\n", "a text": good + '{"step": 2, "train/loss": "low"}\n',
        "no step": '{"train/loss": 2.0}\n' + good,
    }.get(damage, good)
    runs.write(folder, text=text)
    args = [folder]
    if damage == "no folder":
        args = [tmp_path / "nowhere"]
    elif damage == "no config":
        (folder / "config.yaml").unlink()
    elif damage == "bad config":
        (folder / "config.yaml").write_text("system: moe\ntask: {model: {widht: 3}}\n")
    elif damage == "no metrics":
        (folder / "metrics.jsonl").unlink()
    elif damage == "binary":
        (folder / "metrics.jsonl").write_bytes(b"\xff\xfe\x00")
    elif damage == "out is a file":
        args += ["--out", folder / "config.yaml"]
    assert run_script(monkeypatch, *args) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and message in printed.err
    assert "Traceback" not in printed.err and not (folder / "report").exists()
