"""Options of the mixture VAE."""

from jaxgraph.vae.config.evaluation import Evaluation
from jaxgraph.vae.config.model import Likelihood, Model, Prior
from jaxgraph.vae.config.objective import Controller, Objective, Separability
from jaxgraph.vae.config.vae import Optim, Vae

__all__ = [
    "Controller", "Evaluation", "Likelihood", "Model", "Objective", "Optim", "Prior",
    "Separability", "Vae",
]
