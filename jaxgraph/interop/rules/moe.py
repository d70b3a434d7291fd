"""Geometric MoE: our parameters and the original's checkpoints (spec/moe.md, 3.1 and 4.5)."""

import json
import pathlib
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax

from jaxgraph.errors import UserError
from jaxgraph.interop.rule import LINEAR, VECTOR, Form, Linear, Rule
from jaxgraph.interop.rules.moe_config import config_from_torch
from jaxgraph.interop.torch import Path, load_pt
from jaxgraph.moe.config import Model
from jaxgraph.moe.model import LanguageModel, init_params


def _norm(path: str, key: str) -> list[Rule]:
    return [Rule(f"{path}/scale", f"{key}.weight"), Rule(f"{path}/bias", f"{key}.bias")]


def _linear(path: str, key: str, form: Form = LINEAR) -> list[Rule]:
    return [Rule(f"{path}/kernel", f"{key}.weight", form), Rule(f"{path}/bias", f"{key}.bias")]


def _experts(path: str, key: str) -> list[Rule]:
    return [
        *_norm(f"{path}/norm1", f"{key}.norm1"),
        *_norm(f"{path}/norm2", f"{key}.norm2"),
        # Rows of the packed projection: all of q, then k, then v; heads within each.
        Rule(f"{path}/attention/qkv/kernel", f"{key}.attention.in_proj_weight", LINEAR),
        Rule(f"{path}/attention/qkv/bias", f"{key}.attention.in_proj_bias", VECTOR),
        *_linear(f"{path}/attention/out", f"{key}.attention.out_proj", Linear(inputs=2)),
        *_linear(f"{path}/up", f"{key}.ffn.0"),
        *_linear(f"{path}/down", f"{key}.ffn.3"),
    ]


LAYER = "model_layers.{i}"
COMMON = (
    Rule("token_embedding/embedding", "token_emb.weight"),
    Rule("position_embedding/embedding", "pos_emb.weight"),
    *_linear("layer_{i}/coupler/combine", LAYER + ".coupler.combiner.0"),
    *_norm("layer_{i}/coupler/norm", LAYER + ".coupler.combiner.2"),
    *_norm("output_norm", "output_norm"),
    *_linear("head", "lm_head"),
)
RULES = (
    *COMMON,
    *_experts("layer_{i}/experts", LAYER + ".primary_experts.{e}"),
    *_experts("layer_{i}/ghosts", LAYER + ".ghost_experts.{e}"),
    Rule("layer_{i}/coupler/hyperedge_weights", LAYER + ".coupler.hyperedge_weights"),
    Rule(
        "layer_{i}/coupler/conv_{j}/kernel",
        LAYER + ".coupler.hgnn_layers_module.{j}.lin.weight",
        LINEAR,
    ),
    Rule("layer_{i}/coupler/conv_{j}/bias", LAYER + ".coupler.hgnn_layers_module.{j}.bias"),
)
ROUND, OLD_ROUND = "layer_{i}/coupler/round_{j}", LAYER + ".coupler.gnn_layers_module.{j}"
OLDER_RULES = (
    *COMMON,
    *_experts("layer_{i}/experts", LAYER + ".experts.{e}"),
    Rule(f"{ROUND}/adjacency", f"{OLD_ROUND}.adjacency_logits"),
    *_linear(f"{ROUND}/neighbour", f"{OLD_ROUND}.neighbor_transform"),
    *_linear(f"{ROUND}/own", f"{OLD_ROUND}.self_transform"),
    *_linear(f"{ROUND}/gate", f"{OLD_ROUND}.message_weight"),
)
"""Names of the original's first commit: no ghosts, and the pairwise coupler (spec/moe.md, 8)."""


def shapes_of(model: Model) -> Any:
    """Shapes and dtypes of a model's parameters: what `to_jax` fills."""
    return jax.eval_shape(partial(init_params, LanguageModel(model)), jax.random.key(0))


class Checkpoint(NamedTuple):
    """A checkpoint of the original."""

    config: dict[str, Any]
    tensors: Mapping[str, Any]

    @property
    def model(self) -> Model:
        return config_from_torch(self.config)


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a `.pt` of the original: its loops', its controllers' or its dashboard's (spec 4.5).

    The dashboard's has no config; then `NAME.config.json` or `config.json` beside it is read.
    """
    content = load_pt(path)
    tensors = content.get("model_state_dict")
    if not isinstance(tensors, Mapping):
        raise UserError(f"{path} has no `model_state_dict`; it has {', '.join(map(str, content))}")
    config = content.get("config")
    if config is None:
        config = _config_beside(pathlib.Path(path))
    if not isinstance(config, dict):
        raise UserError(f"the config of {path} is not an object")
    return Checkpoint(config, tensors)


def _config_beside(path: pathlib.Path) -> Any:
    for place in (path.with_suffix(".config.json"), path.with_name("config.json")):
        if place.exists():
            try:
                return json.loads(place.read_text())
            except ValueError as error:
                raise UserError(f"{place} is not JSON ({error})") from error
    raise UserError(f"{path} has no config; put the run's config.json beside it")
