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
    schedule: Literal["gradual", "binary", "selective"] = "gradual"
    """How a waking ghost's level reaches 1: in `ramp_steps` equal steps, or at once. `selective`
    ramps too, and wakes the sleeping ghost that best explains what the primaries leave over, not
    the first: one step later, for which the sleeping ghosts of that layer are computed."""
    ramp_steps: Positive = 100
    """Steps of the ramp."""
    statistic: Literal["residual", "original"] = "residual"
    """`residual`: share of the target direction outside the span of the experts' updates, times
    their mutual orthogonality. `original`: the seed's statistic (docs/parity.md, D6)."""
    timing: Literal["step", "forward"] = "step"
    """When levels change: once per optimiser step, from the window's mean; or inside each forward
    from its own statistic, as in the seed."""
    mixing: Literal["active", "original"] = "active"
    """Mean over experts without coupling: weighted by level, or the seed's sum over all nodes
    divided by their number, which lets sleeping ghosts dilute the primaries."""
    lr_coupling: Literal["none", "inverse", "complementary"] = "none"
    """How a ghost's rate follows the primaries' schedule s (1 at its peak) and its own level:
    not at all, (1 - s) · level, or ((1 - s) / 2 + 0.1) · level. `inverse` is 0 at the peak; while
    the primaries still warm up, 1 - s is large."""
    lr_coupling_scope: Literal["each", "original"] = "each"
    """Whose level counts: each ghost's own; or that of ghost 0 of layer 0 for all, and in the first
    step none, as in the seed."""
    background_weight: NonNegative = 0.0
    """Factor of a loss that trains sleeping ghosts, unheard, to add what the primaries' updates
    leave over of the target direction; 0 leaves them as they are, at no cost."""

    @property
    def rehearse(self) -> bool:
        """Whether sleeping ghosts may have to be computed in training."""
        return self.count > 0 and (self.schedule == "selective" or self.background_weight > 0)

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.timing == "forward" and self.statistic != "original":
            yield "timing", "'forward' needs statistic 'original'; allowed here: 'step'"
        if self.timing == "forward" and self.schedule == "selective":
            yield "schedule", (
                "'selective' with timing 'forward', which wakes before it could compare; "
                "allowed: 'gradual' or 'binary', or timing 'step'"
            )
        if self.background_weight and self.lr_coupling != "none":
            yield "background_weight", (
                f"{self.background_weight:g} with lr_coupling {self.lr_coupling!r}, whose rate is "
                "0 for sleeping ghosts; allowed: 0, or lr_coupling 'none'"
            )
