"""Intervals for shares."""

import math


def wilson(hits: int, rows: int, deviations: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval for the share ``hits / rows``; 95 % unless `deviations` says otherwise.

    Source: Wilson 1927. Unlike the share plus and minus its standard error it never leaves [0, 1]
    and holds its level for small samples and shares near 0 or 1.
    """
    share, squared = hits / rows, deviations**2
    centre = share + squared / (2 * rows)
    spread = deviations * math.sqrt(share * (1 - share) / rows + squared / (4 * rows**2))
    scale = 1 + squared / rows
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
