"""Options of ghost experts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.fields import Count, NonNegative, Positive


@dataclass(frozen=True)
class Ghosts:
    """Experts that wake up when the primaries saturate."""

    count: Count = 0
    """Ghosts per layer; 0 turns the mechanism off."""
    threshold: NonNegative = 0.7
    """Saturation above which the next ghost wakes."""
    window: Positive = 100
    """Steps over which saturation is averaged; nobody wakes before the window is full."""
    schedule: Literal["gradual", "binary"] = "gradual"
    """How a waking ghost's level reaches 1: in `ramp_steps` equal steps, or at once."""
    ramp_steps: Positive = 100
    """Steps of the gradual ramp."""
    statistic: Literal["residual", "original"] = "residual"
    """`residual`: share of the target direction outside the span of the experts' updates, times
    their mutual orthogonality. `original`: the seed's statistic (docs/parity.md, D6)."""
    timing: Literal["step", "forward"] = "step"
    """When levels change: once per optimiser step, from the window's mean; or inside each forward
    from its own statistic, as in the seed."""
    mixing: Literal["active", "original"] = "active"
    """Mean over experts without coupling: weighted by level, or the seed's sum over all nodes
    divided by their number, which lets sleeping ghosts dilute the primaries."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.timing == "forward" and self.statistic != "original":
            yield "timing", "'forward' needs statistic 'original'; allowed here: 'step'"
