"""What a run shows: plain lines in a pipe, a bar on a terminal, nothing when asked."""

import sys

import pytest

from jaxgraph.train import progress


def test_plain_lines_tell_step_text_and_time_left(monkeypatch, capsys):
    now = iter([100.0, 130.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with progress.make_display("plain", 10, 130) as display:
        display.update(39, "loss 2", logged=False)
        display.update(40, "loss 1", logged=True)
        display.note("a note")
    # 30 steps took 30 seconds, and 90 are left.
    assert capsys.readouterr().out == "step     40/130  loss 1  left 1:30\na note\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_is_for_terminals(monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    kind = progress.Bar if terminal else progress.Plain
    assert type(progress.make_display("auto", 0, 10)) is kind


def test_the_bar_shows_steps_text_and_notes(capsys):
    with progress.make_display("bar", 2, 10) as display:
        display.update(7, "loss 1.5", logged=False)
        display.note("[a note]")
    shown = capsys.readouterr().err
    assert "7/10" in shown and "loss 1.5" in shown and "[a note]" in shown


def test_off_shows_nothing(capsys):
    with progress.make_display("off", 0, 10) as display:
        display.update(5, "loss", logged=True)
        display.note("a note")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("seconds, text", [(0.0, "0:00"), (125.9, "2:05"), (3723.0, "1:02:03")])
def test_clock(seconds, text):
    assert progress.clock(seconds) == text
