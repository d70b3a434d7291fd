"""Figures of the mixture VAE."""

from jaxgraph.plots.vae import bound

FIGURES = bound.FIGURES
