"""A whole run: mode, data, evaluation."""

from dataclasses import dataclass
from typing import Literal

from jaxgraph.data.config import GreyData
from jaxgraph.neurograph.config.faithful import Faithful
from jaxgraph.neurograph.config.learning import Evaluation, Learning


@dataclass(frozen=True)
class NeuroGraph:
    """NeuroGraph."""

    mode: Literal["learning", "faithful"] = "learning"
    """`learning`: index pairs on edges, trained by gradients; options in `learning`. `faithful`:
    the original's dynamics and its rule; options in `faithful`."""
    learning: Learning = Learning()
    faithful: Faithful = Faithful()
    data: GreyData = GreyData()
    evaluation: Evaluation = Evaluation()
