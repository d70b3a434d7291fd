"""The original's training loops, step by step (spec/moe.md, 4.4 and 4.5)."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Float, Int

from jaxgraph.errors import UserError
from jaxgraph.interop.case import Case
from jaxgraph.interop.cases.moe_model import (
    Golden,
    language_model_loss,
    read_mask,
    read_tokens,
    start_ghosts,
)
from jaxgraph.moe.ghosts import GhostState
from jaxgraph.moe.model import LanguageModel
from jaxgraph.nn.losses import cross_entropy

GROUPS = ("experts", "ghosts")
"""The only parameters that the original trains (spec D2)."""
ADAMW = optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(0.01))
"""Without the learning rate, which the loops set from outside. Every parameter decays."""


class History(NamedTuple):
    """A finished run; one entry a step."""

    loss: list[float]
    used: list[dict[str, float]]
    """Rates of the groups before the step."""
    primary_after: list[float]
    """Rate of the primaries after the step."""
    ghosts_after: list[list[float]]
    """Rate of each ghost after the step."""
    params: Any
    ghosts: GhostState | None


def cosine_periodic(base: float, step: int, period: int) -> float:
    """base · (1 + cos(π·step/period)) / 2, which rises again after `period`."""
    return base * (1 + math.cos(math.pi * step / period)) / 2


def ghost_rates(
    base: float, primary: float, primary_base: float, levels: list[float], coupling: str
) -> list[float]:
    """Rates of the ghosts in the legacy loop, which learn as the primaries slow down.

    base · (1 - primary/primary_base) · level with coupling `inverse`; in every other coupling the
    original takes 1 for the factor in the middle.
    """
    factor = 1 - primary / primary_base if coupling == "inverse" else 1.0
    return [base * factor * level for level in levels]


def legacy_loss(
    model: LanguageModel,
    params: Any,
    tokens: Int[Array, "b t"],
    mask: Int[Array, "b t"],
    ghosts: GhostState | None,
) -> tuple[Float[Array, ""], GhostState | None]:
    """Model loss with padding as label 0, which does not count."""
    out = model.apply({"params": params}, tokens, ghosts=ghosts, attention_mask=mask)
    logits = model.apply({"params": params}, out.hidden, method="logits")
    return language_model_loss(logits, tokens * mask), out.ghosts


def standard_loss(
    model: LanguageModel,
    params: Any,
    tokens: Int[Array, "b t"],
    mask: Int[Array, "b t"],
    ghosts: GhostState | None,
) -> tuple[Float[Array, ""], GhostState | None]:
    """Inputs and targets shifted outside the model; padding is a target like any other."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    out = model.apply({"params": params}, inputs, ghosts=ghosts, attention_mask=mask[:, :-1])
    logits = model.apply({"params": params}, out.hidden, method="logits")
    return cross_entropy(logits, targets).mean(), out.ghosts


LOSSES = {"legacy": legacy_loss, "standard": standard_loss}


def simulate(case: Case, golden: Golden, name: str) -> History:
    """Runs one loop over the case's batches, each once and in order."""
    tokens = read_tokens(case, "in/input_ids", golden.config, axes=3)
    mask = read_mask(case, tokens)
    base = {"experts": _number(case, golden.settings, "learning_rate")}
    if golden.config.ghosts.count:
        base["ghosts"] = _number(case, golden.settings["ghost"], "ghost_learning_rate")
    period = int(_number(case, golden.settings, "max_steps"))
    coupling = golden.settings["ghost"].get("ghost_lr_coupling")

    params, ghosts = golden.params, start_ghosts(golden.config)
    moments, rates = ADAMW.init(trained_part(params)), dict(base)
    history = History([], [], [], [], params, ghosts)
    for step in range(len(tokens)):
        history.used.append(rates)
        loss, params, moments, ghosts = _update(
            golden.model, name, params, moments, ghosts, tokens[step], mask[step], rates
        )
        rates = {group: cosine_periodic(lr, step + 1, period) for group, lr in base.items()}
        each = [rates.get("ghosts")] * golden.config.ghosts.count
        if name == "legacy" and ghosts is not None:
            # The original has one rate for all ghosts: that of ghost 0, by the levels of layer 0.
            levels = [float(level) for level in ghosts.levels[0]]
            each = ghost_rates(base["ghosts"], rates["experts"], base["experts"], levels, coupling)
            rates["ghosts"] = each[0]
        history.loss.append(float(loss))
        history.primary_after.append(rates["experts"])
        history.ghosts_after.append(each)
    return history._replace(params=params, ghosts=ghosts)


@partial(jax.jit, static_argnums=(0, 1))
def _update(model, name, params, moments, ghosts, tokens, mask, rates):
    trained = trained_part(params)

    def objective(trained):
        return LOSSES[name](model, with_trained(params, trained), tokens, mask, ghosts)

    (loss, ghosts), grads = jax.value_and_grad(objective, has_aux=True)(trained)
    updates, moments = ADAMW.update(grads, moments, trained)
    trained = descend(trained, updates, rates)
    return loss, with_trained(params, trained), moments, ghosts


def descend(trained: Any, updates: Any, rates: dict[str, Any]) -> Any:
    """The trained part after a step, each group at its own rate."""
    return {
        layer: {
            group: jax.tree.map(lambda p, u, r=rates[group]: p - r * u, bank, updates[layer][group])
            for group, bank in banks.items()
        }
        for layer, banks in trained.items()
    }


def trained_part(params: Any) -> Any:
    """The banks of experts and ghosts, by layer."""
    layers = {name: sub for name, sub in params.items() if name.startswith("layer_")}
    return {
        name: {group: sub[group] for group in GROUPS if group in sub}
        for name, sub in layers.items()
    }


def with_trained(params: Any, trained: Any) -> Any:
    """All parameters, with these banks."""
    return {name: {**sub, **trained.get(name, {})} for name, sub in params.items()}


def _number(case: Case, settings: dict[str, Any], name: str) -> float:
    value = settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UserError(f"{name} in the config of {case.path} is {value!r}; expected a number > 0")
    return float(value)
