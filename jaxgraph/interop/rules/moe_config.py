"""Geometric MoE: our model options and the original's config (spec/moe.md, section 2)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxgraph.moe.config import Ghosts, Hypergraph, Model, Orthogonality
from jaxgraph.problems import Problems

SECTIONS: dict[str, dict[str, type]] = {
    "": {
        "architecture_mode": str,
        "vocab_size": int,
        "max_seq_length": int,
        "embed_dim": int,
        "num_layers": int,
        "num_heads": int,
        "num_experts": int,
        "dropout_rate": float,
        "use_hypergraph_coupling": bool,
    },
    "hgnn": {"num_layers": int, "strategy": str, "learnable_edge_weights": bool},
    "ghost": {"num_ghost_experts": int, "ghost_activation_threshold": float},
}
"""Fields of the original's config that shape the model; all of them must be there."""
TRAINING_FIELDS = frozenset(
    # What runs and how, and what the original stores but never reads (spec 2).
    "run_name checkpoint_dir resume_checkpoint seed num_parameters use_orthogonal_loss "
    "training_mode training_loop epochs batch_size learning_rate max_batches_per_epoch eval_every "
    "log_every max_steps dataset_source dataset_name dataset_config_name num_train_samples "
    "num_eval_samples num_workers_dataloader use_mixed_precision force_reprocess geometric "
    "ghost.ghost_learning_rate ghost.ghost_activation_schedule ghost.saturation_monitoring_window "
    "ghost.ghost_lr_coupling ghost.ghost_background_learning".split()
)
STRATEGIES = {"all_pairs": "pairs", "all_triplets": "triplets", "all": "all"}
TITLE = "the original's config does not describe a model of ours"
FREE = (
    "hypergraph", "ghosts", "orthogonality", "dtype", "expert_loop", "remat", "window",
    "rotation", "views", "geometric", "router", "lr_coupling", "lr_coupling_scope",
    "background_weight",
)
"""Options that the original lacks and that do not change what a trained model computes; sections
are compared field by field, those of rotations mean nothing without their `train_mode`, and that of
the router nothing without its `top_k`."""
WORDS = {str: "a text", int: "a count", float: "a number", bool: "true or false"}


def config_from_torch(config: Mapping[str, Any]) -> Model:
    """The model that computes what the original computes with this config.

    Its ghosts wake inside each forward by the seed's statistic, always by the gradual ramp, and
    its orthogonality loss is 0: the original has neither schedules nor that loss (spec D4, D5).
    """
    get = _read_fields(config)
    problems = Problems(TITLE)
    mode, coupled = get["architecture_mode"], get["use_hypergraph_coupling"]
    if mode not in ("gnn", "hgnn", "orthogonal", "ghost"):
        problems.add(f"architecture_mode {mode!r}; allowed: gnn, hgnn, orthogonal, ghost")
    elif coupled != (mode != "gnn") and mode != "ghost":
        problems.add(f"use_hypergraph_coupling is {coupled}, which mode {mode!r} does not allow")
    if get["hgnn.strategy"] not in STRATEGIES:
        problems.add(f"hgnn.strategy {get['hgnn.strategy']!r}; allowed: {', '.join(STRATEGIES)}")
    problems.raise_if_any()
    model = Model(
        mode=mode,
        coupling="none" if mode == "ghost" and not coupled else "by_mode",
        vocab_size=get["vocab_size"],
        max_seq_len=get["max_seq_length"],
        width=get["embed_dim"],
        num_layers=get["num_layers"],
        num_heads=get["num_heads"],
        num_experts=get["num_experts"],
        dropout=float(get["dropout_rate"]),
        hypergraph=Hypergraph(
            operator="original",
            strategy=STRATEGIES[get["hgnn.strategy"]],
            convolutions=get["hgnn.num_layers"],
            learnable_weights=get["hgnn.learnable_edge_weights"],
        ),
        ghosts=Ghosts(
            count=get["ghost.num_ghost_experts"],
            threshold=float(get["ghost.ghost_activation_threshold"]),
            statistic="original",
            timing="forward",
            mixing="original",
        ),
        orthogonality=Orthogonality(weight=0.0),
    )
    for name, text in model.problems():
        problems.add(f"{name}: {text}")
    problems.raise_if_any()
    return model


def config_to_torch(model: Model) -> dict[str, Any]:
    """The original's config of a model that the original can compute; inverse of the above."""
    names = {ours: theirs for theirs, ours in STRATEGIES.items()}
    config = {
        "architecture_mode": model.mode,
        "vocab_size": model.vocab_size,
        "max_seq_length": model.max_seq_len,
        "embed_dim": model.width,
        "num_layers": model.num_layers,
        "num_heads": model.num_heads,
        "num_experts": model.num_experts,
        "dropout_rate": model.dropout,
        "use_hypergraph_coupling": model.coupled,
        "hgnn": {
            "num_layers": model.hypergraph.convolutions,
            "strategy": names[model.hypergraph.strategy],
            "learnable_edge_weights": model.hypergraph.learnable_weights,
        },
        "ghost": {
            "num_ghost_experts": model.ghosts.count,
            "ghost_activation_threshold": model.ghosts.threshold,
        },
    }
    _refuse_differences(model, config_from_torch(config))
    return config


def _read_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that shape the model, nested ones with a dot."""
    problems = Problems(TITLE)
    found = {}
    for section, fields in SECTIONS.items():
        values = config.get(section) if section else config
        if not isinstance(values, Mapping):
            problems.add(f"{section} is missing or not an object")
            continue
        dot = f"{section}." if section else ""
        known = {dot + name for name in fields} | TRAINING_FIELDS | SECTIONS.keys()
        for name in values:
            if dot + str(name) not in known:
                problems.add(f"unknown field {dot}{name}; it might change what the model computes")
        for name, kind in fields.items():
            found[dot + name] = value = values.get(name)
            if name not in values:
                problems.add(f"{dot}{name} is missing; expected {WORDS[kind]}")
            elif not _fits(name, value, kind):
                problems.add(f"{dot}{name} is {value!r}; expected {WORDS[kind]}")
    problems.raise_if_any()
    return found


def _refuse_differences(model: Model, back: Model) -> None:
    """Refuses what got lost on the way to the original's config and back."""
    problems = Problems("the original cannot compute this model")
    if model.router.top_k:
        problems.add(f"router.top_k is {model.router.top_k}; the original has none: allowed 0")
    sections = {"": (model, back)}
    if model.coupled:
        sections["hypergraph."] = (model.hypergraph, back.hypergraph)
    if model.ghosts.count:
        sections["ghosts."] = (model.ghosts, back.ghosts)
    for section, (ours, theirs) in sections.items():
        for field in dataclasses.fields(ours):
            value, other = getattr(ours, field.name), getattr(theirs, field.name)
            if field.name not in FREE and value != other:
                problems.add(f"{section}{field.name} is {value!r}; the original has {other!r}")
    problems.raise_if_any()


def _fits(name: str, value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is int:
        return isinstance(value, int) and value >= (name != "num_ghost_experts")
    return isinstance(value, (int, float) if kind is float else kind)
