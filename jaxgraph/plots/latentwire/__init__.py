"""Figures of LatentWire."""

from jaxgraph.plots.latentwire import wire

FIGURES = wire.FIGURES
