"""Options of NeuroGraph."""

from jaxgraph.neurograph.config.learning import Cell, Evaluation, Graph, Learning, Loss, Optim
from jaxgraph.neurograph.config.neurograph import NeuroGraph

__all__ = ["Cell", "Evaluation", "Graph", "Learning", "Loss", "NeuroGraph", "Optim"]
