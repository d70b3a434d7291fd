"""What a figure is, and how it becomes a PNG file."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure as Canvas

from jaxgraph.config import Config
from jaxgraph.plots.history import History
from jaxgraph.plots.style import SETTINGS


class TooLittle(Exception):
    """A run has the metrics of a figure, but not enough of them; the message says what lacks."""


@dataclass(frozen=True)
class Figure:
    """A figure of a report."""

    name: str
    """Of its file, without the ending."""
    title: str
    caption: str
    """What is shown and how to read it."""
    needs: tuple[str, ...]
    """Shell patterns of metric names, each of which the run must have logged."""
    draw: Callable[[History, Config], Canvas]
    """May raise `TooLittle`."""

    def missing(self, history: History) -> list[str]:
        """The needed patterns that no metric matches."""
        return [pattern for pattern in self.needs if not history.names(pattern)]


def render(figure: Figure, history: History, config: Config) -> bytes:
    """The figure as PNG.

    Raises:
      TooLittle: see there.
    """
    return to_png(lambda: figure.draw(history, config), figure.title)


def to_png(draw: Callable[[], Canvas], title: str) -> bytes:
    """What `draw` makes, in the style of all figures, under a title."""
    with matplotlib.rc_context(SETTINGS):
        canvas = draw()
        canvas.suptitle(title, x=0.01, ha="left", fontweight="bold")
        file = io.BytesIO()
        canvas.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
