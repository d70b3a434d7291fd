"""Options of LatentWire. Imports no JAX."""

from jaxgraph.latentwire.config.latentwire import Data, Evaluation, LatentWire, Optim
from jaxgraph.latentwire.config.losses import Curriculum, Gist, Losses
from jaxgraph.latentwire.config.model import Adapter, Encoder

__all__ = [
    "Adapter",
    "Curriculum",
    "Data",
    "Encoder",
    "Evaluation",
    "Gist",
    "LatentWire",
    "Losses",
    "Optim",
]
