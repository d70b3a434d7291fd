"""Which figures a report has: those of every run, and those of its system."""

from jaxgraph.plots import latentwire, moe, neurograph, training, vae
from jaxgraph.plots.figure import Figure

FIGURES: dict[str, list[Figure]] = {
    "moe": moe.FIGURES,
    "vae": vae.FIGURES,
    "neurograph": neurograph.FIGURES,
    "latentwire": latentwire.FIGURES,
}
"""By system; one without an entry gets the general figures."""


def figures_of(system: str) -> list[Figure]:
    """In the order of the report."""
    return [*training.FIGURES, *FIGURES.get(system, [])]
