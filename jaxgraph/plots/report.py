"""The report of a run: its figures as files, and one page with all of them."""

import time
from pathlib import Path
from typing import NamedTuple

from jaxgraph import config as configs
from jaxgraph.config import Config
from jaxgraph.errors import UserError
from jaxgraph.plots.figure import TooLittle, render
from jaxgraph.plots.history import History, read_history
from jaxgraph.plots.page import Drawn, LeftOut, to_html
from jaxgraph.plots.systems import figures_of

PAGE = "index.html"
ENDED_WITH = (
    "validation/loss", "validation/perplexity", "validation/bits_per_byte", "train/loss",
    "train/skipped_steps",
)


class Report(NamedTuple):
    """What was written."""

    page: Path
    drawn: list[Drawn]
    left_out: list[LeftOut]


def write_report(run: Path, out: Path | None = None) -> Report:
    """Draws all figures for which the run has metrics.

    Args:
      run: a workdir; its `config.yaml` and `metrics.jsonl` are read, checkpoints are not needed.
      out: folder for the PNG files and the page; `report` in the run's by default.

    Raises:
      UserError: there is no run, a file of it is damaged, or `out` cannot be written.
    """
    if not run.is_dir():
        raise UserError(f"{run} is no folder; name the workdir of a training run")
    path = run / "config.yaml"
    if not path.exists():
        raise UserError(f"{run} holds no config.yaml; name the workdir of a training run")
    config = configs.load(["--config", str(path)])
    history = read_history(run / "metrics.jsonl")
    drawn, left_out = [], []
    figures = figures_of(config.system)
    for figure in figures:
        missing = figure.missing(history)
        if missing:
            left_out.append(LeftOut(figure.title, f"not logged: {', '.join(missing)}"))
            continue
        try:
            png = render(figure, history, config)
        except TooLittle as lack:
            left_out.append(LeftOut(figure.title, str(lack)))
            continue
        drawn.append(Drawn(figure.name, figure.title, figure.caption, png))
    page = to_html(
        f"{config.system}: {run.resolve().name}", _facts(history, config), _numbers(history),
        drawn, left_out, configs.to_yaml(config),
    )
    out = out or run / "report"
    try:
        out.mkdir(parents=True, exist_ok=True)
        for figure in figures:
            # A figure of an earlier report that has no metrics any more must not stay.
            (out / f"{figure.name}.png").unlink(missing_ok=True)
        for one in drawn:
            (out / f"{one.name}.png").write_bytes(one.png)
        (out / PAGE).write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out: cannot write {out}: {error}; choose a folder you own") from error
    return Report(out / PAGE, drawn, left_out)


def _facts(history: History, config: Config) -> str:
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"{history.last_step:,} of {config.train.steps:,} steps; report of {written}"


def _numbers(history: History) -> list[tuple[str, str]]:
    names = [name for name in ENDED_WITH if name in history] + history.names("baseline/*")
    return [(name, f"{history[name].last:,.4g}") for name in names]
