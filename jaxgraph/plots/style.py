"""Colours and settings that all figures share."""

import matplotlib

SETTINGS = {
    "figure.dpi": 120,
    "savefig.dpi": 120,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 12,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "image.cmap": "viridis",
    # A `$` in a metric's name is no formula.
    "text.parse_math": False,
}

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
FAINT = "#b8b8b8"
MISSING = "#efefef"
"""Of cells of a heat map for which nothing was measured."""
SEQUENTIAL, DIVERGING = "viridis", "PuOr_r"


def colour(index: int, count: int) -> str | tuple:
    """Colour of series `index` of `count`: the palette, or a gradient where there are more."""
    if count <= len(PALETTE):
        return PALETTE[index]
    return matplotlib.colormaps["viridis"](0.95 * index / (count - 1))
