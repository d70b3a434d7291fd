"""The mixture VAE as a task: its objective, its optimiser, its data."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxgraph.errors import UserError
from jaxgraph.train.optim import group_norms, make_optimizer
from jaxgraph.train.placement import SPREAD, WHOLE
from jaxgraph.train.state import TrainState, new_state
from jaxgraph.train.step import make_train_step
from jaxgraph.train.task import Batch, Batches, Metrics
from jaxgraph.vae.bits import observe, unpack_bits
from jaxgraph.vae.config import Vae
from jaxgraph.vae.controller import init_controller
from jaxgraph.vae.decomposition import active_units
from jaxgraph.vae.divergence import ACTIVE_KL, kl_normal
from jaxgraph.vae.examination import examine
from jaxgraph.vae.model import MixtureVae, Posterior, init_params
from jaxgraph.vae.objective import VaeObjective
from jaxgraph.vae.sources import baselines, make_source

RULES = [("", "all")]


class VaeTask:
    """See `jaxgraph.train.task.Task`."""

    # Any device may need any row of the pool.
    placement = [("^frozen/", WHOLE), ("", SPREAD)]

    def __init__(self, config: Vae, *, total_steps: int, diagnostics_every: int, seed: int):
        self.config, self._seed = config, seed
        self._pool: Any = None
        self.source = make_source(config)
        model = config.model
        if model.inputs not in (0, self.source.inputs):
            raise UserError(
                f"task.model.inputs: got {model.inputs}, but the data have {self.source.inputs} "
                "coordinates; allowed: 0 (the data's) or that"
            )
        self.model = MixtureVae(replace(model, inputs=self.source.inputs))
        self.objective = VaeObjective(
            self.model, config.objective, config.separability, self.source.class_of
        )
        optim = config.optim
        self._optimizer = make_optimizer(
            {"all": optim.group}, RULES, total_steps=total_steps, clip=optim.clip
        )
        # Where they are never due, gradients need not be kept for them: 7 % of a step.
        due = diagnostics_every <= total_steps
        self.train_step = make_train_step(
            self.objective,
            self._optimizer,
            accumulate=optim.accumulate,
            update_extra=self.objective.update_extra,
            diagnostics=(lambda *trees: group_norms(*trees, RULES)) if due else None,
            diagnostics_every=diagnostics_every,
        )

    def init(self, key: Any) -> TrainState:
        init_key, run_key = jax.random.split(key)
        params = init_params(self.model, init_key)
        controller = self.config.objective.controller
        extra = {"controller": init_controller(controller)} if controller.target else {}
        return new_state(params, self._optimizer.transform.init(params), extra, run_key)

    def frozen(self) -> Any:
        """The training rows, on the device once and for all: 32 bytes each, or 98 of an image."""
        if self._pool is None:
            self._pool = jax.tree.map(jnp.asarray, self.source.pool())
        return self._pool

    def eval_step(self, state: TrainState, frozen: Any, batch: Batch) -> Metrics:
        """Negative evidence lower bound at beta 1, without dropout.

        The draws follow from the batch's bits alone, so evaluations of one run differ by its
        parameters and not by luck.
        """
        del frozen
        places = jnp.arange(batch["bits"].size, dtype=jnp.uint32).reshape(batch["bits"].shape)
        digest = jnp.sum(batch["bits"].astype(jnp.uint32) * (2 * places + 1), dtype=jnp.uint32)
        data_key, latent_key = jax.random.split(jax.random.key(digest))
        x = observe(batch["bits"], data_key, self.model.config.likelihood)
        noise = jax.random.normal(latent_key, (len(x), self.model.latents))
        out = self.objective.run(state.params, x, noise)
        mask = batch["mask"]
        elbo, rows = self.objective.elbo(state.params, x, out, mask), mask.sum()
        in_use = {} if elbo.in_use is None else {"latents_in_use": elbo.in_use}
        right = (out.logits > 0) == (unpack_bits(batch["bits"]) > 0)
        return {
            "loss": elbo.nll + elbo.kl,
            "nll": elbo.nll,
            "kl": elbo.kl,
            "bit_accuracy": jnp.sum(mask * right.mean(1)) / jnp.maximum(rows, 1),
            "weight": rows,
        } | in_use

    def batches(self, split: str) -> Batches:
        return self.source.batches(split, self._seed)

    def derive(self, metrics: dict[str, float], split: str) -> dict[str, float]:
        del split
        return metrics

    def describe(self) -> dict[str, str]:
        return self.source.describe()

    def baselines(self, split: str = "validation") -> dict[str, float]:
        return baselines(self.source, split, self.model.config.likelihood)

    def artifacts(self) -> dict[str, str]:
        return {}

    def showcase(self, state: TrainState) -> str:
        """Whether the latents carry anything."""
        batch = self.source.batches("validation", self._seed)[0]
        if self.model.config.prior.kind == "mixture":
            # Its KL has no dimensions: means that vary count instead.
            used = int(active_units(self._posterior(state.params, batch).mu).sum())
            text = f"the means of {used} of {self.model.latents} latent dimensions vary"
        else:
            kl = self._kl_by_dimension(state.params, batch)
            used = int((kl > ACTIVE_KL).sum())
            text = (
                f"{used} of {len(kl)} latent dimensions hold more than {ACTIVE_KL} nats, "
                f"{kl.sum():.2f} in all"
            )
        return text if used else f"{text}: the posterior has collapsed onto the prior"

    def evaluate_more(self, state: TrainState, split: str) -> dict[str, Any]:
        """See `jaxgraph.train.task.Examined`."""
        options = self.config.evaluation
        return examine(self.model, state.params, self.source, options, split, self._seed)

    def _kl_by_dimension(self, params: Any, batch: Batch) -> jax.Array:
        """Mean KL of each latent coordinate from a standard normal, over one batch."""
        rows = batch["mask"] / batch["mask"].sum()
        return rows @ kl_normal(*self._posterior(params, batch))

    def _posterior(self, params: Any, batch: Batch) -> Posterior:
        """Of one batch."""

        @jax.jit
        def encode(params: Any, bits: Any) -> Posterior:
            x = observe(bits, jax.random.key(0), self.model.config.likelihood)
            return self.model.apply({"params": params}, x, method="encode")

        return encode(params, batch["bits"])
