"""Mixture VAE: our options and the original's config (spec/vae.md, sections 5, 8 and 14)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxgraph.fields import Range
from jaxgraph.problems import Problems
from jaxgraph.vae.config import Likelihood, Model, Objective

TITLE = "the original's cfg does not describe a model of ours"
DEFAULTS = {
    "beta_max": 1.0, "beta_warmup_steps": 20000, "activation": "silu", "layernorm": True,
}  # fmt: skip
"""What the original takes where its config is silent."""
ACTIVATIONS = ("silu", "gelu", "softplus")


class Options(NamedTuple):
    """What a config of the original says."""

    model: Model
    objective: Objective


def config_from_torch(
    cfg: Mapping[str, Any], keys: Mapping[str, Any], inputs: int | None = None
) -> Options:
    """The model and objective of a checkpoint.

    Args:
      cfg: the original's flat config.
      keys: the state dict's; they tell which of the three classes it is.
      inputs: width of the data, where `expected_input_dim` does not say it.
    """
    kind = kind_of(keys)
    problems = Problems(TITLE)
    known = {"noise_sigma", "num_layers", "hidden_dimension", "dropout", "expected_input_dim"}
    known |= DEFAULTS.keys()
    known |= {"free_bits"} if kind == "free_bits" else set()
    for name in cfg:
        if name not in known:
            problems.add(f"unknown field {name}; it might change what the model computes")
    values = DEFAULTS | {"expected_input_dim": None, "free_bits": 0.05} | dict(cfg)
    values["expected_input_dim"] = values["expected_input_dim"] or inputs
    kinds = {"noise_sigma": float, "dropout": float, "beta_max": float, "free_bits": float}
    kinds |= {"num_layers": int, "hidden_dimension": int, "beta_warmup_steps": int}
    kinds |= {"expected_input_dim": int, "layernorm": bool, "activation": str}
    for name, wanted in kinds.items():
        value = values.get(name)
        numbers = (int, float) if wanted is float else wanted
        if not isinstance(value, numbers) or isinstance(value, bool) != (wanted is bool):
            problems.add(f"{name} is {value!r}; expected a {wanted.__name__}")
    problems.raise_if_any()
    activation = values["activation"].strip().lower()
    if activation not in ACTIVATIONS:
        problems.add(f"activation is {activation!r}; allowed: {', '.join(ACTIVATIONS)}")
    if not Range(0, above=True).holds(values["noise_sigma"]):
        problems.add(f"noise_sigma is {values['noise_sigma']!r}; allowed: above 0")
    if not 0 <= values["dropout"] < 1:
        problems.add(f"dropout is {values['dropout']!r}; allowed: 0 to below 1")
    problems.raise_if_any()
    model = Model(
        kind=kind,
        # The original clamps these to at least 1.
        inputs=max(1, values["expected_input_dim"]),
        num_layers=max(1, values["num_layers"]),
        max_width=max(1, values["hidden_dimension"]),
        dropout=float(values["dropout"]),
        activation=activation,
        layernorm=values["layernorm"],
        likelihood=Likelihood(sigma=float(values["noise_sigma"])),
    )
    objective = Objective(
        beta=float(values["beta_max"]),
        beta_warmup_steps=max(0, values["beta_warmup_steps"]),
        free_bits=float(values["free_bits"]) if kind == "free_bits" else 0.0,
        free_bits_over="sample",
    )
    return Options(model, objective)


def config_to_torch(model: Model, objective: Objective) -> dict[str, Any]:
    """The original's config of a model that the original can compute."""
    problems = Problems("the original cannot compute this model")
    if model.likelihood.kind != "mixture":
        problems.add(f"likelihood.kind is {model.likelihood.kind!r}; the original has 'mixture'")
    if model.prior.kind != "normal":
        problems.add(f"prior.kind is {model.prior.kind!r}; the original has 'normal'")
    if model.clamp_logvar:
        problems.add(f"clamp_logvar is {model.clamp_logvar:g}; the original has 0")
    problems.raise_if_any()
    config = {
        "noise_sigma": model.likelihood.sigma,
        "num_layers": model.num_layers,
        "hidden_dimension": model.max_width,
        "dropout": model.dropout,
        "beta_max": objective.beta,
        "beta_warmup_steps": objective.beta_warmup_steps,
        "activation": model.activation,
        "layernorm": model.layernorm,
        "expected_input_dim": model.inputs,
    }
    return config | ({"free_bits": objective.free_bits} if model.kind == "free_bits" else {})


def kind_of(keys: Mapping[str, Any]) -> str:
    """Which of the original's classes has these keys."""
    if any(key.startswith(("enc_layers.", "dec_layers.")) for key in keys):
        return "complex"
    return "free_bits" if any(key.startswith("_enc_head") for key in keys) else "real"
