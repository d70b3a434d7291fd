"""Figures of NeuroGraph."""

from jaxgraph.plots.neurograph import activity, indices, learning

FIGURES = [*learning.FIGURES, *activity.FIGURES, *indices.FIGURES]
