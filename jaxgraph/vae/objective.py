"""What training minimises: negative log-likelihood, weighted KL, separability."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgraph.nn import across
from jaxgraph.train.step import LossOutput
from jaxgraph.train.task import Batch
from jaxgraph.vae import controller
from jaxgraph.vae.bits import observe
from jaxgraph.vae.config import Objective, Separability
from jaxgraph.vae.divergence import (
    ACTIVE_KL,
    beta_schedule,
    free_bits,
    kl_normal,
    log_gaussian,
    log_mixture,
)
from jaxgraph.vae.likelihood import log_likelihood
from jaxgraph.vae.model import MixtureVae, Output
from jaxgraph.vae.separability import (
    NUMBER_CLASSES,
    Score,
    fisher_ratio,
    map_labels,
    weight_schedule,
)


class Draws(NamedTuple):
    """The randomness of one step."""

    noise: Any
    """[b, z]: of the latents."""
    dropout: Any = None
    """Key; None where dropout is off."""
    noise_apart: Any = None
    """[b, z]: of the seed's second pass, whose dropout is another too."""


class Elbo(NamedTuple):
    """Terms of the evidence lower bound of a batch."""

    nll: Any
    """Mean negative log-likelihood."""
    kl: Any
    """Mean KL without any floor."""
    floored: Any
    """Mean KL as it is minimised: with free bits."""
    in_use: Any = None
    """Latent dimensions with more than `ACTIVE_KL` nats; None where the KL has no dimensions."""


class VaeObjective:
    """Loss of a mixture VAE, and how its controller follows from it."""

    def __init__(
        self,
        model: MixtureVae,
        objective: Objective,
        separability: Separability,
        class_of: tuple[int, ...] = NUMBER_CLASSES,
    ):
        self.model, self.options = model, objective
        self.separability, self.class_of = separability, class_of

    def __call__(self, params, frozen, extra, batch: Batch, key, step) -> LossOutput:
        """The loss of packed bits: noise of data, latents and dropout follows from the key.

        A batch of row numbers is taken from the pool that `frozen` holds.
        """
        if "row" in batch:
            batch = batch | {name: rows[batch["row"]] for name, rows in frozen.items()}
        config = self.model.config
        keys = jax.random.split(key, 4)
        x = observe(batch["bits"], keys[0], config.likelihood)
        shape = len(x), self.model.latents
        noise = partial(across.draw, jax.random.normal)
        draws = Draws(
            noise(keys[1], shape),
            keys[2] if config.dropout else None,
            None if self.separability.gradient else noise(keys[3], shape),
        )
        return self.loss(params, extra, x, batch["label"], batch["mask"], draws, step)

    def loss(
        self,
        params: Any,
        extra: Any,
        x: Float[Array, "b d"],
        labels: Int[Array, " b"],
        mask: Float[Array, " b"],
        draws: Draws,
        step: Any,
    ) -> LossOutput:
        """nll + beta kl - lambda J, over the rows of mask 1 (spec/vae.md, 5, 6 and 9)."""
        options = self.options
        out = self.run(params, x, draws.noise, draws.dropout)
        elbo = self.elbo(params, x, out, mask)
        if options.controller.target:
            beta = extra["controller"].beta
        else:
            beta = beta_schedule(step, options.beta, options.beta_warmup_steps)
        score = self.score(params, x, out, labels, mask, draws)
        weight = weight_schedule(
            step, self.separability.weight, self.separability.warmup_steps,
            self.separability.ramp_steps,
        )
        loss = elbo.nll + beta * elbo.floored - weight * score.fisher
        metrics = {
            "elbo/nll": elbo.nll, "elbo/kl": elbo.kl, "elbo/beta": beta,
            "separability/score": score.fisher, "separability/adjusted": score.adjusted,
            "separability/lambda": weight,
        }
        if options.free_bits:
            metrics["elbo/kl_floored"] = elbo.floored
        if elbo.in_use is not None:
            metrics["elbo/latents_in_use"] = elbo.in_use
        return LossOutput(loss, mask.sum(), metrics, {"kl": elbo.kl})

    def run(self, params: Any, x: Float[Array, "b d"], noise: Any, dropout: Any = None) -> Output:
        """One pass; in training mode if there is a dropout key."""
        rngs = None if dropout is None else {"dropout": dropout}
        return self.model.apply(
            {"params": params}, x, noise, train=dropout is not None, rngs=rngs
        )

    def elbo(
        self, params: Any, x: Float[Array, "b d"], out: Output, mask: Float[Array, " b"]
    ) -> Elbo:
        """Means over the rows of mask 1."""
        rows = jnp.maximum(across.total(mask.sum()), 1)
        total = lambda values: across.total(jnp.sum(values))  # noqa: E731
        nll = -total(mask * log_likelihood(x, out.logits, self.model.config.likelihood)) / rows
        if self.model.config.prior.kind == "mixture":
            # No closed form: log q - log p at the sampled latents.
            prior = self.model.apply({"params": params}, method="prior")
            kl = log_gaussian(out.z, out.mu, out.logvar).sum(-1) - log_mixture(out.z, *prior)
            kl = total(mask * kl) / rows
            return Elbo(nll, kl, kl)
        each = kl_normal(out.mu, out.logvar)
        kl = total(mask[:, None] * each) / rows
        in_use = jnp.sum(across.total(mask @ each) / rows > ACTIVE_KL).astype(each.dtype)
        return Elbo(nll, kl, free_bits(each, mask, self.options), in_use)

    def score(
        self, params: Any, x: Float[Array, "b d"], out: Output, labels: Any, mask: Any, draws: Draws
    ) -> Score:
        """Separability of this pass, or as the seed computes it: of another one, a constant."""
        z = out.z
        if not self.separability.gradient:
            dropout = draws.dropout
            if dropout is not None:
                dropout = jax.random.fold_in(dropout, 1)
            z = self.run(params, x, draws.noise_apart, dropout).z
        if not (self.separability.gradient and self.separability.weight):
            z = jax.lax.stop_gradient(z)
        labels = map_labels(labels, self.class_of)
        classes = max(self.class_of) + 1
        return fisher_ratio(z, labels, classes=classes, options=self.separability, mask=mask)

    def update_extra(self, extra: Any, stats: Any) -> Any:
        """`state.extra` after a step with these statistics."""
        if not self.options.controller.target:
            return extra
        return {
            "controller": controller.advance(
                extra["controller"], stats["kl"], self.options.controller
            )
        }
