"""The model of a golden MoE case, and one forward pass of it in the case's own words."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgraph.errors import UserError
from jaxgraph.interop.case import Case
from jaxgraph.interop.rules.moe import RULES, shapes_of
from jaxgraph.interop.rules.moe_config import config_from_torch
from jaxgraph.interop.torch import to_jax
from jaxgraph.moe.config import Model
from jaxgraph.moe.ghosts import GhostState, init_ghosts
from jaxgraph.moe.model import LanguageModel, Output
from jaxgraph.nn.losses import cross_entropy

Labels = Int[Array, "b t"] | Int[np.ndarray, "b t"]


class Golden(NamedTuple):
    """What a case computes with."""

    settings: dict[str, Any]
    """The original's config."""
    config: Model
    model: LanguageModel
    params: Any


class Pass(NamedTuple):
    """One forward pass."""

    trace: dict[str, Array]
    """Everything on the way, logits and loss, by the names of the cases."""
    grads: Any
    """Of the loss; ghost levels are held constant, as in the original."""
    output: Output


def load_golden(case: Case, tensors: Any = None) -> Golden:
    """Builds the case's model; with the weights of the case unless others are given."""
    settings = case.meta.get("config")
    if not isinstance(settings, dict):
        raise UserError(f"entry 'config' of {case.path} has no object `config` with the settings")
    config = config_from_torch(settings)
    tensors = case.below("param/") if tensors is None else tensors
    params = to_jax(tensors, shapes_of(config), RULES)
    return Golden(settings, config, LanguageModel(config), params)


def read_tokens(case: Case, name: str, config: Model, axes: int = 2) -> np.ndarray:
    """Token ids `[..., b, t]`; JAX would clamp what is out of range and say nothing."""
    tokens = case[name]
    if tokens.dtype.kind not in "iu" or tokens.ndim != axes or not tokens.size:
        raise UserError(f"{name} of {case.path} is {tokens.dtype}{tokens.shape}, not token ids")
    if tokens.min() < 0 or tokens.max() >= config.vocab_size:
        raise UserError(f"{name} of {case.path} leaves the vocabulary 0 to {config.vocab_size - 1}")
    if tokens.shape[-1] > config.max_seq_len:
        raise UserError(f"{name} of {case.path} is longer than {config.max_seq_len} positions")
    return tokens.astype(np.int32)


def read_mask(case: Case, tokens: np.ndarray) -> np.ndarray:
    """1 where a token is real, in the shape of the tokens; a case may go without."""
    if "in/attention_mask" not in case.arrays:
        return np.ones_like(tokens)
    return case.shaped("in/attention_mask", tokens.shape).astype(np.int32)


def read_labels(case: Case, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Labels of the model loss; where a case has none, the tokens with padding as 0."""
    if "in/labels" not in case.arrays:
        return tokens * mask
    return case.shaped("in/labels", tokens.shape).astype(np.int32)


def language_model_loss(logits: Float[Array, "b t v"], labels: Labels) -> Float[Array, ""]:
    """The original's model loss: shifted inside, label 0 does not count (spec 3.2)."""
    targets = jnp.asarray(labels)[:, 1:]
    counted = targets != 0
    return jnp.sum(cross_entropy(logits[:, :-1], targets) * counted) / counted.sum()


@partial(jax.jit, static_argnums=0)
def run(
    model: LanguageModel,
    params: Any,
    tokens: Int[Array, "b t"],
    mask: Int[Array, "b t"],
    labels: Labels,
    ghosts: GhostState | None,
) -> Pass:
    """Forward and backward of the model loss; one program for all calls of a case."""

    def loss_and_rest(params):
        out = model.apply({"params": params}, tokens, ghosts=ghosts, attention_mask=mask)
        logits = model.apply({"params": params}, out.hidden, method="logits")
        loss = language_model_loss(logits, labels)
        return loss, (trace(model.config, out) | {"logits": logits, "loss": loss}, out)

    grads, (traced, out) = jax.grad(loss_and_rest, has_aux=True)(params)
    return Pass(traced, grads, out)


def trace(config: Model, out: Output) -> dict[str, Array]:
    """What the layers compute, by the names of the cases."""
    named = {"embedded": out.embedded, "final_norm": out.hidden}
    nodes = [f"expert{e}" for e in range(config.num_experts)]
    nodes += [f"ghost{g}" for g in range(config.ghosts.count)]
    for i, layer in enumerate(out.layers):
        here = dict(zip(nodes, layer.outputs, strict=True))
        here |= {f"hconv{j}": nodes for j, nodes in enumerate(layer.convolutions)}
        here |= {} if layer.coupled is None else {"coupled": layer.coupled}
        here |= {"hidden": layer.hidden}
        named |= {f"layer{i}/{name}": value for name, value in here.items()}
    return named


def start_ghosts(config: Model) -> GhostState | None:
    """All ghosts asleep, or None for a model without."""
    return init_ghosts(config) if config.ghosts.count else None
