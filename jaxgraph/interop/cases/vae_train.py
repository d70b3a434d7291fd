"""Training runs of golden VAE cases: the loop of the original, and the one it means."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases.vae_model import (
    Golden,
    Inputs,
    apart,
    load_golden,
    load_inputs,
    load_separability,
    precision,
)
from jaxgraph.interop.rules.vae import params_to_torch
from jaxgraph.train.config import Group, Schedule
from jaxgraph.train.optim import make_optimizer, make_schedule
from jaxgraph.train.state import new_state
from jaxgraph.train.step import make_train_step, scan_steps
from jaxgraph.vae.config import Separability
from jaxgraph.vae.divergence import beta_schedule
from jaxgraph.vae.objective import Draws
from jaxgraph.vae.separability import weight_schedule

COLUMNS = ["loss", "nll", "kl", "fisher_mean", "sep_skip_rate", "sep_skip_rate_ema"]
KINDS = {"loss": "vae_trajectory", "loss_total": "vae_trajectory", "gnorm": "vae_gradient"}
DECAY = 0.95
"""Of the original's moving average of skipped scores."""


def check(case: Case, checks: Checks) -> None:
    """Runs both variants from the case's start over its batches."""
    golden, separability = load_golden(case, "param0/"), load_separability(case)
    inputs = load_inputs(case, golden, steps=case["in/x"].shape[:1])
    group = make_group(case)
    steps = np.arange(len(inputs.x))
    beta = beta_schedule(steps, golden.objective.beta, golden.objective.beta_warmup_steps)
    weight = weight_schedule(
        steps, separability.weight, separability.warmup_steps, separability.ramp_steps
    )
    with precision(double=True):
        rate = np.asarray(make_schedule(group.schedule, group.lr, len(steps))(steps))
    for variant, options in (("out", apart(separability)), ("intended", separability)):
        found, params = train(case, golden, inputs, options, group)
        kl = found.get("elbo/kl_floored", found["elbo/kl"])
        score = found["separability/score"]
        loss = found["elbo/nll"] + found["elbo/beta"] * kl
        values = {
            "loss": loss, "nll": found["elbo/nll"], "kl": kl, "J": score,
            "loss_total": found["loss"], "gnorm": found["grad_norm"],
        }  # fmt: skip
        for name, value in values.items():
            compare_defined(checks, f"{variant}/{name}", value, KINDS.get(name, "vae_value"))
        for name, value in {"beta": beta, "lam": weight}.items():
            checks.compare(f"{variant}/{name}", value, "exact")
        checks.compare(f"{variant}/lr", rate, "learning_rate")
        prefix = "param" if variant == "out" else "param_intended"
        for key, tensor in params_to_torch(golden.model, params).items():
            checks.compare(f"{prefix}/{key}", tensor, "vae_weight")
        if variant == "out":
            table = epochs(case, {"loss": loss, "nll": values["nll"], "kl": kl}, weight, score)
            compare_defined(checks, "out/epoch", table, "vae_value")
            if "out/epoch_columns" in case.arrays:
                same = json.loads(str(case["out/epoch_columns"])) == COLUMNS
                checks.compare_with("out/epoch_columns", same, True, "exact")


def make_group(case: Case) -> Group:
    """The original's optimiser; its schedule counts epochs."""
    meta, adam, decay = case.meta, case.meta["adam"], case.meta["steplr"]
    period = decay["step_size"] * (meta["per_epoch"] if decay["unit"] == "epoch" else 1)
    return Group(
        kind="adam", lr=meta["lr"], b1=adam["b1"], b2=adam["b2"], eps=adam["eps"],
        schedule=Schedule("step", period=period, gamma=decay["gamma"]),
    )  # fmt: skip


def train(
    case: Case, golden: Golden, inputs: Inputs, separability: Separability, group: Group
) -> tuple[dict[str, np.ndarray], Any]:
    """Metrics of every step, and the parameters after the last: by the step that training uses."""
    objective = golden.make(separability)

    def loss(params, frozen, extra, batch, key, step):
        del frozen, key
        draws = Draws(batch["noise"], None, batch["noise_apart"])
        mask = jnp.ones(len(batch["x"]))
        return objective.loss(params, extra, batch["x"], batch["labels"], mask, draws, step)

    steps = len(inputs.x)
    optimizer = make_optimizer(
        {"all": group}, [("", "all")], total_steps=steps, clip=float(case.meta["clip"])
    )
    params = jax.tree.map(jnp.asarray, golden.params)
    state = new_state(params, optimizer.transform.init(params), {}, jax.random.key(0))
    run = jax.jit(scan_steps(make_train_step(loss, optimizer), steps))
    state, metrics = run(state, None, jax.tree.map(jnp.asarray, vars(inputs)))
    return {name: np.asarray(value, np.float64) for name, value in metrics.items()}, state.params


def epochs(
    case: Case, means: dict[str, np.ndarray], weight: np.ndarray, score: np.ndarray
) -> np.ndarray:
    """What the original's loop returns: means, and how often the score did not count."""
    rows = []
    for part in np.split(np.arange(len(weight)), case.meta["epochs"]):
        used = (weight[part] > 0) & (score[part] > 0)
        average = 0.0
        for skipped in ~used:
            average = DECAY * average + (1 - DECAY) * skipped
        mean = score[part][used].mean() if used.any() else np.nan
        row = [value[part].mean() for value in means.values()]
        rows.append([*row, mean, 1 - used.mean(), average])
    return np.array(rows)


def compare_defined(checks: Checks, name: str, ours: np.ndarray, kind: str) -> None:
    """Compares where the original computed something: it writes NaN elsewhere."""
    expected = checks.case.arrays.get(name)
    if expected is None:
        return
    known = ~np.isnan(expected)
    if ours.shape == expected.shape:
        ours, expected = ours[known], expected[known]
    checks.compare_with(name, ours, expected, kind)
