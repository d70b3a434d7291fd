"""Intervals for shares."""

from jaxgraph.nn.intervals import wilson

__all__ = ["wilson"]
