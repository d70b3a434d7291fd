"""Four research systems in JAX/Flax: geometric MoE, mixture VAE, NeuroGraph and LatentWire.

Importing this package starts nothing heavy; JAX is imported when a task is made.
"""

__version__ = "0.1.0"
__all__ = ["load_task"]


def load_task(path: str, overrides: list[str] | None = None):
    """Makes the task that a config file describes, ready for use from other JAX code.

    Args:
      path: YAML file, for example ``configs/smoke/moe.yaml``.
      overrides: command-line options laid over it, for example
        ``["--task.model.num_experts", "8"]``.

    Returns:
      A `jaxgraph.train.task.Task`.

    Raises:
      jaxgraph.errors.UserError: the config or the data it names is wrong; the message says what
        to change.
    """
    from jaxgraph import config, systems

    return systems.make_task(config.load(["--config", path, *(overrides or [])]))
