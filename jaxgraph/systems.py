"""The systems there are, and how a config becomes a task."""

from collections.abc import Callable
from dataclasses import replace

from jaxgraph.config import Config
from jaxgraph.train.task import Task


def make_moe(config: Config, artifacts: dict[str, str] | None) -> Task:
    """Geometric mixture of experts with ghosts."""
    from jaxgraph.moe.task import MoeTask

    task, model = config.task, config.task.model
    if config.parallel.expert != 1 and model.expert_loop == "auto":
        # One after the other, every expert would have to come to every device.
        task = replace(task, model=replace(model, expert_loop="vmap"))
    return MoeTask(
        task,
        total_steps=config.train.steps,
        diagnostics_every=config.train.diagnostics_every,
        seed=config.seed,
        artifacts=artifacts,
    )


def make_vae(config: Config, artifacts: dict[str, str] | None) -> Task:
    """Mixture VAE on noisy bits."""
    from jaxgraph.vae.task import VaeTask

    del artifacts  # it keeps none
    return VaeTask(
        config.task,
        total_steps=config.train.steps,
        diagnostics_every=config.train.diagnostics_every,
        seed=config.seed,
    )


def make_neurograph(config: Config, artifacts: dict[str, str] | None) -> Task:
    """Graph of integer phases and magnitudes."""
    from jaxgraph.neurograph.task import NeuroGraphTask

    del artifacts  # it keeps none
    return NeuroGraphTask(
        config.task,
        total_steps=config.train.steps,
        diagnostics_every=config.train.diagnostics_every,
        seed=config.seed,
    )


def make_latentwire(config: Config, artifacts: dict[str, str] | None) -> Task:
    """Soft tokens for frozen language models."""
    from jaxgraph.latentwire.task import LatentWireTask

    del artifacts  # it keeps none
    return LatentWireTask(config.task, total_steps=config.train.steps, seed=config.seed)


SYSTEMS: dict[str, Callable[[Config, dict[str, str] | None], Task]] = {
    "moe": make_moe,
    "vae": make_vae,
    "neurograph": make_neurograph,
    "latentwire": make_latentwire,
}


def make_task(config: Config, artifacts: dict[str, str] | None = None) -> Task:
    """The task of a config; `artifacts` are the files its run folder keeps, if it has one.

    Raises:
      UserError: the data that the config names is missing or wrong.
    """
    return SYSTEMS[config.system](config, artifacts)
