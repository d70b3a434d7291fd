"""The model of a golden VAE case, its inputs, and one evaluation of loss and gradients."""

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxgraph.errors import UserError
from jaxgraph.interop.case import Case
from jaxgraph.interop.rules.vae import params_from_torch
from jaxgraph.interop.rules.vae_config import config_from_torch
from jaxgraph.vae.config import Model, Objective, Separability
from jaxgraph.vae.divergence import kl_normal
from jaxgraph.vae.likelihood import log_likelihood
from jaxgraph.vae.model import MixtureVae
from jaxgraph.vae.objective import Draws, VaeObjective


class Golden(NamedTuple):
    """What a case describes."""

    model: Model
    objective: Objective
    params: Any
    """float32"""

    def make(self, separability: Separability) -> VaeObjective:
        return VaeObjective(MixtureVae(self.model), self.objective, separability)


def load_golden(case: Case, prefix: str = "param/") -> Golden:
    """Model, objective and parameters; the original's options are nested in sections."""
    sections = case.meta["cfg"]
    kind = case.meta["kind"]
    if not isinstance(sections, Mapping) or not isinstance(sections.get("model"), Mapping):
        raise UserError(f"the config of {case.path} has no object `cfg.model`")
    flat = dict(sections["model"]) | dict(sections.get("crypto", {}))
    if kind == "real_freebits":
        flat |= dict(sections.get("vae", {}))
    flat["expected_input_dim"] = flat.pop("input_dimension", None)
    tensors = case.below(prefix)
    # A model without trunks has no keys that tell its kind; the case names it.
    keys = {"complex": ("enc_layers.0.c",), "real_freebits": ("_enc_head.weight",)}.get(kind, ())
    options = config_from_torch(flat, dict.fromkeys(keys), case.meta.get("D"))
    return Golden(*options, params_from_torch(options.model, tensors))


class Inputs(struct.PyTreeNode):
    """Inputs of one step, or of several along a first axis."""

    x: Any
    labels: Any
    noise: Any
    noise_apart: Any
    """Of the original's pass without gradient."""


def load_inputs(case: Case, golden: Golden, steps: tuple[int, ...] = ()) -> Inputs:
    """The inputs, whose shapes must be those that the config names."""
    latents = MixtureVae(golden.model).latents
    shape = (*steps, *case["in/x"].shape[-2:])
    if shape[-1] != golden.model.inputs:
        raise UserError(f"in/x of {case.path} has {shape[-1]} columns, not {golden.model.inputs}")
    rows = shape[:-1]
    return Inputs(
        case.shaped("in/x", shape),
        case.shaped("in/labels", rows).astype(np.int32),
        case.shaped("in/eps", (*rows, latents)),
        case.shaped("in/eps_cached", (*rows, latents)),
    )


class Results(struct.PyTreeNode):
    """Everything that a forward case records, by its names."""

    out: dict[str, Any]
    grad: Any
    """Of the loss that the original trains with, as parameters."""
    grad_total: Any
    """Of the loss that it means, separability included."""


def evaluate(
    golden: Golden, inputs: Inputs, step: int, separability: Separability, double: bool
) -> Results:
    """Forward, losses and gradients, in float32 or float64."""
    kinds = {True: golden.make(separability), False: golden.make(apart(separability))}
    model = golden.model

    def run(params, inputs):
        mask, at = jnp.ones(len(inputs.x), inputs.x.dtype), jnp.asarray(step)
        draws = Draws(inputs.noise, None, inputs.noise_apart)

        def total(params, gradient):
            out = kinds[gradient].loss(params, {}, inputs.x, inputs.labels, mask, draws, at)
            return out.loss, out.metrics

        trained, intended = (
            jax.value_and_grad(total, has_aux=True)(params, gradient) for gradient in (False, True)
        )
        ours = kinds[True].run(params, inputs.x, inputs.noise)
        cached = kinds[True].run(params, inputs.x, inputs.noise_apart)
        each = kl_normal(ours.mu, ours.logvar)
        floor = golden.objective.free_bits
        ((theirs_total, theirs), grad), ((loss_total, metrics), grad_total) = trained, intended
        kl = metrics.get("elbo/kl_floored", metrics["elbo/kl"])
        out = {
            "mu": ours.mu, "logvar": ours.logvar, "z": ours.z, "pi_logits": ours.logits,
            "nll": metrics["elbo/nll"], "kl": kl, "beta": metrics["elbo/beta"],
            "loss": metrics["elbo/nll"] + metrics["elbo/beta"] * kl,
            "nll_ps": -log_likelihood(inputs.x, ours.logits, model.likelihood),
            "kl_ps": (jnp.maximum(each, floor) if floor else each).sum(-1), "kl_dim_raw": each,
            "sep_J": metrics["separability/score"], "sep_lambda": metrics["separability/lambda"],
            "loss_total": loss_total,
            "z_cached": cached.z, "sep_J_cached": theirs["separability/score"],
            "loss_total_upstream": theirs_total,
        }  # fmt: skip
        return Results(out, grad, grad_total)

    with precision(double) as dtype:
        cast = lambda x: jnp.asarray(x, dtype if x.dtype.kind == "f" else None)  # noqa: E731
        return jax.device_get(jax.jit(run)(*jax.tree.map(cast, (golden.params, inputs))))


@contextlib.contextmanager
def precision(double: bool):
    """Under it, float64 exists if asked for; gives the dtype of floats."""
    with jax.enable_x64(double):
        yield jnp.float64 if double else jnp.float32


def apart(separability: Separability) -> Separability:
    """The same as the original computes it: of another pass, without gradient."""
    return Separability(**vars(separability) | {"gradient": False})


def load_separability(case: Case) -> Separability:
    options = case.meta["sep"]
    return Separability(
        weight=float(options.get("base_lambda", options.get("lambda", 0.0))),
        warmup_steps=options["warmup_steps"],
        ramp_steps=options["ramp_steps"],
        eps=options["eps"],
        min_per_class=options["min_per_class"],
    )
