"""Types of config fields with the range they allow, read by `jaxgraph.config`."""

import math
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """Closed interval of allowed numbers; `above` makes the lower end open."""

    low: int | float = -math.inf
    high: int | float = math.inf
    above: bool = False

    def holds(self, value: int | float) -> bool:
        low_ok = value > self.low if self.above else value >= self.low
        return low_ok and value <= self.high

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'above' if self.above else 'at least'} {self.low:g}"
        return f"{'above' if self.above else 'from'} {self.low:g} to {self.high:g}"


Count = Annotated[int, Range(0)]
"""0, 1, 2, ..."""
Positive = Annotated[int, Range(1)]
"""1, 2, 3, ..."""
PositiveFloat = Annotated[float, Range(0, above=True)]
NonNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
