"""Options of NeuroGraph."""

from jaxgraph.neurograph.config.faithful import Faithful
from jaxgraph.neurograph.config.learning import Cell, Evaluation, Graph, Learning, Loss, Optim
from jaxgraph.neurograph.config.neurograph import NeuroGraph

__all__ = ["Cell", "Evaluation", "Faithful", "Graph", "Learning", "Loss", "NeuroGraph", "Optim"]
