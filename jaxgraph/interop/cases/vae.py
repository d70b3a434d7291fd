"""Golden cases of the mixture VAE: forward passes, losses, gradients.

What the entries mean stands in the README of the cases; training runs are in `vae_train.py`, tables
and metrics in `vae_tables.py`.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases import vae_tables, vae_train
from jaxgraph.interop.cases.vae_model import (
    Golden,
    Results,
    evaluate,
    load_golden,
    load_inputs,
    load_separability,
)
from jaxgraph.interop.rules.vae import params_to_torch
from jaxgraph.vae.divergence import beta_schedule
from jaxgraph.vae.metrics.classwise import classwise
from jaxgraph.vae.metrics.monitor import tracker
from jaxgraph.vae.separability import compact_labels, weight_schedule

EXPECTS = ("out/", "out64/", "grad", "intended/", "param_intended/")
EXACT = ("beta", "sep_lambda")
TRACKER_RIDGE = 1e-4


def recognises(case: Case) -> bool:
    """VAE models name their kind and hold the original's settings under `cfg`; tables name
    neither, and are known by an entry."""
    return "cfg" in case.meta or vae_tables.recognises(case)


def check(case: Case, checks: Checks) -> None:
    """Recomputes a case; nothing of a kind that we do not know."""
    checks.expects = EXPECTS
    if "cfg" not in case.meta:
        return vae_tables.check(case, checks)
    if case.meta.get("kind") not in ("real", "complex", "real_freebits"):
        return None
    if case.below("param0/"):
        checks.expects += ("param/",)
        return vae_train.check(case, checks)
    return check_forward(case, checks)


def check_forward(case: Case, checks: Checks) -> None:
    """One batch, in float32 and in float64."""
    golden, separability = load_golden(case), load_separability(case)
    inputs, step = load_inputs(case, golden), int(case["in/step"])
    found = evaluate(golden, inputs, step, separability, False)
    for name, value in found.out.items():
        if name not in EXACT:
            checks.compare(f"out/{name}", value, "vae_value")
    for prefix, grads in (("grad", found.grad), ("grad_total", found.grad_total)):
        check_gradients(case, checks, golden, prefix, grads)
    at = np.asarray(step)
    beta = beta_schedule(at, golden.objective.beta, golden.objective.beta_warmup_steps)
    weight = weight_schedule(
        at, separability.weight, separability.warmup_steps, separability.ramp_steps
    )
    checks.compare("out/beta", beta, "exact")
    checks.compare("out/sep_lambda", weight, "exact")
    labels = np.asarray(compact_labels(jnp.asarray(inputs.labels)))
    checks.compare("out/y_remapped", labels, "exact")
    found_by_class = tracker(np.asarray(found.out["z"]), labels, ridge=TRACKER_RIDGE)
    vae_tables.compare_tracker(checks, found_by_class, "vae_tracker")
    out = {name: np.asarray(found.out[name]) for name in ("nll_ps", "kl_ps", "pi_logits", "z")}
    report = classwise(out["nll_ps"], out["kl_ps"], inputs.x, out["pi_logits"], out["z"], labels)
    vae_tables.compare_report(checks, "out/classwise_json", report, "vae_value")
    if case.below("out64/"):
        check_double(case, checks, golden, evaluate(golden, inputs, step, separability, True))


def check_gradients(case: Case, checks: Checks, golden: Golden, prefix: str, grads: Any) -> None:
    """Each tensor, each tensor's norm, and the norm of all."""
    kind = gradient_kind(golden)
    tensors = params_to_torch(golden.model, grads)
    for key, grad in tensors.items():
        checks.compare(f"{prefix}/{key}", grad, kind)
        checks.compare(f"{prefix}norm/{key}", norm([grad]), kind)
    checks.compare(f"out/{prefix}_global_norm", norm(tensors.values()), kind)


def check_double(case: Case, checks: Checks, golden: Golden, found: Results) -> None:
    """The original's model converted to float64."""
    for name, value in found.out.items():
        checks.compare(f"out64/{name}", value, "float64")
    for prefix, grads in (("grad64", found.grad), ("grad64_total", found.grad_total)):
        for key, grad in params_to_torch(golden.model, grads).items():
            checks.compare(f"{prefix}/{key}", grad, "float64")


def gradient_kind(golden: Golden) -> str:
    softplus = golden.model.kind == "complex" and golden.model.activation == "softplus"
    return "vae_gradient_softplus" if softplus else "vae_gradient"


def norm(tensors: Any) -> float:
    squares = (np.square(np.asarray(tensor, np.float64)).sum() for tensor in tensors)
    return np.sqrt(sum(squares))
