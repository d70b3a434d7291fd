"""What geometric training modes minimise besides the cross-entropy (spec/moe.md, 4.2 and 11)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxgraph.moe.config import Geometric, Model
from jaxgraph.moe.ghosts import GhostState
from jaxgraph.moe.layer import LayerOutput, expert_updates
from jaxgraph.moe.model import LanguageModel, Output
from jaxgraph.moe.orthogonality import pairwise_cosine
from jaxgraph.moe.rotator import Rotator, root, safe_norm
from jaxgraph.nn import across


class Terms(NamedTuple):
    """The three geometric terms, not yet weighted; smaller is better."""

    orthogonality: Float[Array, ""]
    efficiency: Float[Array, ""]
    specialization: Float[Array, ""]

    def total(self, weights: Geometric) -> Float[Array, ""]:
        """What is added to the task's loss."""
        return (
            weights.orthogonality_weight * self.orthogonality
            + weights.efficiency_weight * self.efficiency
            + weights.specialization_weight * self.specialization
        )

    def metrics(self) -> dict[str, Float[Array, ""]]:
        return {f"geometric/{name}": value for name, value in self._asdict().items()}


def run_views(
    model: LanguageModel,
    params: Any,
    tokens: Int[Array, "b t"],
    ghosts: GhostState | None,
    views: Int[Array, " p"],
    *,
    summarise: Callable[[Output], Any],
    attention_mask: Any = None,
    dropout_key: Key[Array, ""] | None = None,
) -> tuple[Float[Array, "p b t d"], GhostState | None, Any]:
    """The whole network once per presentation (spec 4.3).

    With `views.loop` `scan` only one presentation's activations exist at a time, in the backward
    pass too, and ghosts with timing `forward` go from one presentation to the next.

    Args:
      views: experts whose presentations are shown.
      summarise: what to keep of each pass besides its hidden states; should be small.

    Returns:
      Hidden states, ghosts after the last presentation, and the stacked summaries.
    """
    keys = None if dropout_key is None else jax.random.split(dropout_key, len(views))

    def run(ghosts, part):
        view, key = part
        out = model.apply(
            {"params": params}, tokens, ghosts, attention_mask, train=key is not None, view=view,
            rngs=None if key is None else {"dropout": key},
        )
        return out.ghosts, (out.hidden, summarise(out))

    if model.config.views.loop == "vmap":
        hidden, kept = jax.vmap(lambda part: run(ghosts, part)[1])((views, keys))
    else:
        run = jax.checkpoint(run, prevent_cse=False)  # scan keeps the two passes apart by itself
        ghosts, (hidden, kept) = jax.lax.scan(run, ghosts, (views, keys))
    return hidden, ghosts, kept


def mean_view(hidden: Float[Array, "p b t d"]) -> Float[Array, "b t d"]:
    """Hidden states whose logits are the mean of the presentations' logits: the head is linear, so
    logits of single presentations are never needed."""
    return hidden.astype(jnp.float32).mean(0).astype(hidden.dtype)


def view_terms(
    hidden: Float[Array, "p b t d"], angles: Float[Array, "e r"], mask: Float[Array, "b t"]
) -> Terms:
    """The seed's terms (spec 4.2), over the tokens that `mask` counts.

    Orthogonality compares presentations as one long vector each. Specialisation is almost constant
    on hidden states that come out of a norm (docs/parity.md, D10).
    """
    count = hidden.shape[0]
    efficiency = jnp.mean(jnp.square(angles))
    if count < 2:
        return Terms(jnp.zeros(()), efficiency, jnp.zeros(()))
    hidden = hidden.astype(jnp.float32)
    flat = (hidden * mask[None, :, :, None]).reshape(count, -1)
    norm = root(across.total(jnp.sum(jnp.square(flat), -1)))
    unit = flat / jnp.maximum(norm, 1e-8)[:, None]
    cosine = jnp.abs(across.total(unit @ unit.T))[jnp.triu_indices(count, 1)]
    unlike = 1 - jnp.var(safe_norm(hidden), axis=0, ddof=1)
    unlike, tokens = across.total((jnp.sum(unlike * mask), mask.sum()))
    specialization = jax.nn.relu(unlike / jnp.maximum(tokens, 1))
    return Terms(cosine.mean(), efficiency, specialization)


def routed_terms(
    layers: tuple[LayerOutput, ...], config: Model, mask: Float[Array, "b t"]
) -> Terms:
    """Our terms, measured on what the primary experts add to the stream; means over layers.

    orthogonality: mean squared cosine between updates of different experts on a token, each
      expert's mean update over the row taken off.
    efficiency: mean squared angle in use.
    specialization: 1 minus how much an expert's share of the updates' sizes varies along a row; 0
      when each token is served by one expert and all serve equally many.

    Rows are compared with themselves only, so micro-batches and devices add up to the whole batch.
    """
    parts = [
        Terms(
            token_mean(pairwise_cosine(_centred(updates, mask)), mask),
            token_mean(jnp.square(layer.angles).mean((0, -1)), mask),
            _sameness(updates, mask),
        )
        for layer, updates in ((layer, expert_updates(layer, config)) for layer in layers)
    ]
    return Terms(*(jnp.stack(values).mean() for values in zip(*parts, strict=True)))


def routed_angles(layers: tuple[LayerOutput, ...], mask: Float[Array, "b t"]) -> dict[str, Any]:
    """Angles in use, for the log: mean size per layer, in radians."""
    return {
        f"rotation/angle/layer_{i}": token_mean(jnp.abs(layer.angles).mean((0, -1)), mask)
        for i, layer in enumerate(layers)
    }


def view_angles(model: LanguageModel, params: Any) -> tuple[Float[Array, "e r"], dict[str, Any]]:
    """The seed's penalised angles, and for the log their mean size and that of those in use."""
    config = model.config
    rotator = Rotator(config.views, config.num_experts, config.width).bind(
        {"params": params["rotator"]}
    )
    angles, used = rotator.angles(), rotator.used_angles()
    return angles, {
        "rotation/angle/penalised": jnp.abs(angles).mean(),
        "rotation/angle/used": jnp.abs(used).mean(),
    }


def token_mean(values: Float[Array, "#b #t"], mask: Float[Array, "b t"]) -> Float[Array, ""]:
    """Mean over the tokens that count."""
    return jnp.sum(values * mask) / jnp.maximum(mask.sum(), 1)


def row_mean(
    values: Float[Array, "p b t n"], mask: Float[Array, "b t"]
) -> Float[Array, "p b 1 n"]:
    """Mean over the tokens of each row that count."""
    total = jnp.einsum("pbtn,bt->pbn", values, mask)
    return (total / jnp.maximum(mask.sum(1), 1)[None, :, None])[:, :, None]


def size_shares(sizes: Float[Array, "n b t"]) -> Float[Array, "n b t"]:
    """Each node's share of the sizes of all updates of a token."""
    return sizes / jnp.maximum(sizes.sum(0, keepdims=True), 1e-12)


def specialization(
    shares: Float[Array, "n b t"], mask: Float[Array, "b t"], count: Any
) -> Float[Array, ""]:
    """Σ_e Var_t(share_e) / (1 - 1/N) over each row, its largest value being 1 for N = `count`."""
    shares = shares[..., None]
    variance = jnp.square(shares - row_mean(shares, mask)).sum(0)[..., 0]
    return token_mean(variance, mask) / (1 - 1 / count)


def _centred(
    updates: Float[Array, "p b t d"], mask: Float[Array, "b t"]
) -> Float[Array, "p b t d"]:
    updates = updates.astype(jnp.float32)
    return updates - row_mean(updates, mask)


def _sameness(updates: Float[Array, "p b t d"], mask: Float[Array, "b t"]) -> Float[Array, ""]:
    """1 - specialisation of the updates' sizes."""
    count = updates.shape[0]
    if count < 2:
        return jnp.zeros(())
    sizes = safe_norm(updates.astype(jnp.float32))
    return 1 - specialization(size_shares(sizes), mask, count)
