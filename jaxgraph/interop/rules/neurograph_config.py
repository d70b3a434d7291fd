"""NeuroGraph: options of our faithful mode and the original's config (spec/neurograph.md, 1)."""

from collections.abc import Mapping
from typing import Any

from jaxgraph.neurograph.config.faithful import (
    Accumulate,
    Adapter,
    Dynamics,
    Faithful,
    Graph,
    Rule,
)
from jaxgraph.problems import Problems

Key = tuple[str, Any]
"""Dotted name in the original's config, and what its code takes where the name is absent."""
KEYS: dict[str, Key] = {
    "nodes": ("architecture.total_nodes", 1000),
    "inputs": ("architecture.input_nodes", None),
    "outputs": ("architecture.output_nodes", None),
    "width": ("architecture.vector_dim", 5),
    "seed": ("architecture.seed", 42),
    "phase_bins": ("resolution.phase_bins", 512),
    "mag_bins": ("resolution.mag_bins", 1024),
    "cardinality": ("graph_structure.cardinality", None),
    "top_k": ("graph_structure.top_k_neighbors", 4),
    "radiation": ("graph_structure.use_radiation", True),
    "max_timesteps": ("forward_pass.max_timesteps", 35),
    "decay": ("forward_pass.decay_factor", 0.95),
    "min_strength": ("forward_pass.min_activation_strength", 0.001),
    "pixels": ("input_processing.input_dim", 0),
    "classes": ("class_encoding.num_classes", 0),
    "learnable": ("input_processing.learnable", True),
    "normalization": ("input_processing.normalization", "layer_norm"),
    "dropout": ("input_processing.dropout", 0.1),
    "temperature": ("loss_function.temperature", 1.0),
    "smoothing": ("loss_function.label_smoothing", 0.0),
    "rate": ("training.optimizer.base_learning_rate", 0.01),
    "dual": ("training.optimizer.dual_learning_rates.enabled", True),
    "phase_rate": ("training.optimizer.dual_learning_rates.phase_learning_rate", 0.015),
    "mag_rate": ("training.optimizer.dual_learning_rates.magnitude_learning_rate", 0.012),
    "accumulates": ("training.gradient_accumulation.enabled", False),
    "steps": ("training.gradient_accumulation.accumulation_steps", 8),
    "scaling": ("training.gradient_accumulation.lr_scaling", "sqrt"),
    "buffer": ("training.gradient_accumulation.buffer_size", 1500),
}
NORMS = {"layer_norm": True, "none": False, None: False}


def config_from_torch(config: Mapping[str, Any]) -> Faithful:
    """Options of a config of the original; what nothing of it reads is passed over.

    Raises:
      UserError: sizes are missing, or a norm is one that we do not have.
    """
    problems = Problems("the original's config does not describe a network of ours")
    values = {name: _get(config, *key) for name, key in KEYS.items()}
    for name in ("inputs", "outputs", "cardinality"):
        if values[name] is None:
            problems.add(f"{KEYS[name][0]} is missing")
    if values["normalization"] not in NORMS:
        problems.add(
            f"{KEYS['normalization'][0]} is {values['normalization']!r}; allowed: layer_norm, none"
        )
    problems.raise_if_any()
    pick = lambda *names: {name: values[name] for name in names}  # noqa: E731
    scaling = values["scaling"] if values["scaling"] in ("sqrt", "linear") else "none"
    accumulate = Accumulate(
        steps=values["steps"] if values["accumulates"] else 0, lr_scaling=scaling,
        **pick("buffer", "rate"),
    )  # fmt: skip
    rates = pick("phase_rate", "mag_rate")
    if not values["dual"]:
        scale = {"sqrt": accumulate.steps**0.5, "linear": accumulate.steps, "none": 1}[scaling]
        rates = dict.fromkeys(rates, values["rate"] * (scale if values["accumulates"] else 1))
    return Faithful(
        graph=Graph(**pick("nodes", "inputs", "outputs", "cardinality", "seed")),
        dynamics=Dynamics(
            top_k=values["top_k"] if values["radiation"] else 0,
            **pick("max_timesteps", "decay", "min_strength"),
        ),
        adapter=Adapter(
            hidden=Adapter().hidden if values["learnable"] else (),
            layer_norm=NORMS[values["normalization"]],
            **pick("pixels", "dropout"),
        ),
        rule=Rule(accumulate=accumulate, **rates, **pick("temperature", "smoothing")),
        **pick("width", "phase_bins", "mag_bins", "classes"),
    )


def config_to_torch(config: Faithful) -> dict[str, Any]:
    """The original's config of options that the original can compute."""
    problems = Problems("the original cannot compute these options")
    rule = config.rule
    for name, value, allowed in (
        ("graph.edges", config.graph.edges, "upstream"),
        ("rule.clip", rule.clip, 0.0),
        ("rule.warmup", rule.warmup, 0),
        ("rule.magnitude_ends", rule.magnitude_ends, "clamp"),
        ("rule.balance.strategy", rule.balance.strategy, "off"),
    ):
        if value != allowed:
            problems.add(f"{name} is {value!r}; the original has {allowed!r}")
    if config.adapter.hidden not in ((), Adapter().hidden):
        problems.add(f"adapter.hidden is {config.adapter.hidden}; the original's is (1024, 1024)")
    problems.raise_if_any()
    values = vars(config.graph) | vars(config.dynamics) | vars(config.adapter) | vars(rule)
    values |= vars(rule.accumulate) | vars(config)
    values |= {
        "top_k": max(1, config.dynamics.top_k),
        "radiation": config.dynamics.top_k > 0,
        "learnable": bool(config.adapter.hidden),
        "normalization": "layer_norm" if config.adapter.layer_norm else "none",
        "dual": True,
        "accumulates": rule.accumulate.steps > 0,
        "steps": rule.accumulate.steps or 8,
        "scaling": rule.accumulate.lr_scaling,
    }
    tree: dict[str, Any] = {}
    for name, (dotted, _) in KEYS.items():
        *folders, last = dotted.split(".")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = values[name]
    tree["class_encoding"]["encoding_dim"] = config.width
    return tree


def _get(config: Any, dotted: str, default: Any) -> Any:
    for name in dotted.split("."):
        if not isinstance(config, Mapping) or name not in config:
            return default
        config = config[name]
    return config
