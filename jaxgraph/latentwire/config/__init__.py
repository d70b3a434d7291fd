"""Options of LatentWire. Imports no JAX."""

from jaxgraph.latentwire.config.losses import Curriculum, Losses
from jaxgraph.latentwire.config.model import Adapter, Encoder

__all__ = ["Adapter", "Curriculum", "Encoder", "Losses"]
