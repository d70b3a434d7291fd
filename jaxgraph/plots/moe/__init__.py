"""Figures of the geometric mixture of experts."""

from jaxgraph.plots.moe import experts, ghosts, losses, rotations

FIGURES = [*experts.FIGURES, *ghosts.FIGURES, *rotations.FIGURES, *losses.FIGURES]
