"""The config of the original's first commit, with its pairwise coupler (spec/moe.md, 8)."""

from collections.abc import Mapping
from typing import Any

from jaxgraph.moe.config import Adaptive, Hypergraph, Model, Orthogonality
from jaxgraph.problems import Problems

FIELDS: dict[str, tuple[type, ...]] = {
    name: (int,)
    for name in (
        "vocab_size",
        "max_seq_length",
        "embed_dim",
        "num_layers",
        "num_heads",
        "num_experts",
        "gnn_layers",
        "orthogonality_warmup_steps",
    )
}
FIELDS |= {
    name: (int, float)
    for name in (
        "dropout_rate",
        "orthogonality_loss_weight",
        "weight_orthogonality_loss_weight",
        "initial_weight_orthogonality_strength",
        "minimum_weight_orthogonality_strength",
        "maximum_weight_orthogonality_strength",
        "target_specialization_score",
        "specialization_tolerance",
        "deeper_layer_scaling",
        "collapse_detection_threshold",
        "emergency_boost_multiplier",
    )
}
FIELDS |= dict.fromkeys(("performance_monitor_window", "emergency_detection_window"), (int,))
CHOICES = {
    "orthogonality_loss_type": {"gram_identity": "gram", "cosine_similarity": "cosine"},
    "orthogonality_aggregation": {"mean": "mean", "pool": "pool"},
    "weight_orthogonality_target_layer": {
        name: name for name in ("ffn_input", "ffn_output", "attention", "combined")
    },
}
ADAPTATION = dict(every=10, decay_updates=20)
"""Golden cases of the controller update every 10 steps, whatever their config says."""


def older_config(settings: Mapping[str, Any]) -> Model:
    """The model that computes what the first commit computes with this config.

    Raises:
      UserError: a field that shapes the model or its losses is missing or of the wrong kind.
    """
    problems = Problems("the config of the original's first commit does not describe our model")
    for name, kinds in FIELDS.items():
        value = settings.get(name)
        if isinstance(value, bool) or not isinstance(value, kinds) or value < 0:
            problems.add(f"{name} is {value!r}; expected a number of at least 0")
    for name, choices in CHOICES.items():
        if settings.get(name) not in choices:
            problems.add(f"{name} is {settings.get(name)!r}; allowed: {', '.join(choices)}")
    if settings.get("weight_orthogonality_normalization") != "frobenius":
        problems.add("weight_orthogonality_normalization must be 'frobenius'")
    problems.raise_if_any()
    outputs_on = settings.get("apply_orthogonality_loss") is not False
    weights_on = settings.get("apply_weight_orthogonality_loss") is not False
    word = {name: choices[settings[name]] for name, choices in CHOICES.items()}
    adaptive = Adaptive(
        rule="original",
        layer_scale=settings["deeper_layer_scaling"],
        lowest=settings["minimum_weight_orthogonality_strength"],
        highest=settings["maximum_weight_orthogonality_strength"],
        target=settings["target_specialization_score"],
        tolerance=settings["specialization_tolerance"],
        collapse=settings["collapse_detection_threshold"],
        emergency=settings["emergency_boost_multiplier"],
        plateau_window=settings["performance_monitor_window"],
        collapse_window=settings["emergency_detection_window"],
        **ADAPTATION,
    )
    model = Model(
        mode="orthogonal",
        vocab_size=settings["vocab_size"],
        max_seq_len=settings["max_seq_length"],
        width=settings["embed_dim"],
        num_layers=settings["num_layers"],
        num_heads=settings["num_heads"],
        num_experts=settings["num_experts"],
        dropout=float(settings["dropout_rate"]),
        hypergraph=Hypergraph(operator="pairwise", convolutions=settings["gnn_layers"]),
        orthogonality=Orthogonality(
            weight=settings["orthogonality_loss_weight"] * outputs_on,
            warmup_steps=settings["orthogonality_warmup_steps"],
            measure="outputs",
            form=word["orthogonality_loss_type"],
            over=word["orthogonality_aggregation"],
            # The original multiplies by its weight twice.
            weight_strength=settings["weight_orthogonality_loss_weight"] ** 2 * weights_on,
            weight_target=word["weight_orthogonality_target_layer"],
            weight_form="gram",
            adaptive=adaptive,
        ),
    )
    for name, text in model.problems():
        problems.add(f"{name}: {text}")
    problems.raise_if_any()
    return model
