"""What training minimises: the cross-entropy, and the losses of the mode and of the train mode."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgraph.moe import balance, geometric, ghosts, strength
from jaxgraph.moe.config import Model
from jaxgraph.moe.layer import LayerOutput, expert_updates
from jaxgraph.moe.measures import measured
from jaxgraph.moe.model import LanguageModel, Output
from jaxgraph.moe.penalty import Penalty, penalty
from jaxgraph.moe.rehearsal import Rehearsal, rehearse, rehearsing
from jaxgraph.nn.losses import chunked_cross_entropy
from jaxgraph.train.step import LossOutput
from jaxgraph.train.task import Batch, Metrics


class Ran(NamedTuple):
    """What the passes of one training step leave behind."""

    hidden: Any
    """[b, t, d]: what the head reads."""
    ghosts: ghosts.GhostState | None
    apart: Penalty
    """The orthogonality losses."""
    stats: Any
    """What ghosts wake by, for each change of their levels; one, or one per presentation."""
    rehearsal: Rehearsal | tuple
    """Of the sleeping ghosts; empty where they never rehearse."""
    losses: Metrics
    """Added to the cross-entropy."""
    metrics: Metrics


class Objective:
    """Loss of a language model, and how ghosts and adaptive strengths follow from it."""

    def __init__(self, model: LanguageModel, loss_chunk: int, measure_every: int = 0):
        """`measure_every`: steps between measurements of what experts do; 0 for none."""
        self.model, self._chunk, self._measure_every = model, loss_chunk, measure_every

    def __call__(self, params, frozen, extra, batch: Batch, key, step) -> LossOutput:
        """Cross-entropy of real targets, plus the losses of the mode and of the train mode."""
        del frozen
        config = self.model.config
        run = self._run_views if config.train_mode == "geometric" else self._run_once
        ran = run(params, extra, batch, key, step)
        nll, weight = self.cross_entropy(params, ran.hidden, batch)
        metrics = ran.metrics | ran.losses | ran.apart.metrics | {"loss/cross_entropy": nll}
        stats = {}
        if config.ghosts.count:
            stats["ghosts"] = ran.stats
            metrics |= ghost_metrics(ran.ghosts, jax.tree.map(lambda x: x[-1], ran.stats))
        loss = sum(ran.losses.values(), nll) + ran.apart.loss
        if config.ghosts.rehearse:
            stats["scores"] = ran.rehearsal.scores
            who = rehearsing(extra["ghosts"], ran.ghosts.levels, config)
            background, logged = background_loss(ran.rehearsal, who, config)
            loss, metrics = loss + background, metrics | logged
        if "strength" in extra:
            stats["strength"] = (ran.apart.specialization, nll)
        return LossOutput(loss, weight, metrics, stats)

    def cross_entropy(self, params, hidden: Float[Array, "b t d"], batch: Batch):
        """Mean over real targets, and their number."""
        weight = batch["mask"].sum()
        total = chunked_cross_entropy(
            hidden, params["head"]["kernel"], params["head"]["bias"], batch["targets"],
            batch["mask"], chunk=self._chunk,
        )
        return total / jnp.maximum(weight, 1), weight

    def update_extra(self, extra: Any, stats: Any) -> Any:
        """`state.extra` after a step with these statistics."""
        config, new = self.model.config, dict(extra)
        if "ghosts" in stats:
            # One entry, or one per presentation: the seed's ghosts move with each of them.
            for i in range(jax.tree.leaves(stats["ghosts"])[0].shape[0]):
                one = jax.tree.map(lambda x, i=i: x[i], stats["ghosts"])
                if config.ghosts.statistic == "original":
                    one = jax.vmap(ghosts.original_scores)(one)
                saturations = ghosts.saturation(one)
                new["ghosts"] = ghosts.advance(
                    new["ghosts"], saturations, config.ghosts, stats.get("scores")
                )
        if "strength" in stats:
            options = config.orthogonality
            new["strength"] = strength.advance(
                extra["strength"], *stats["strength"], options.weight_strength, options.adaptive
            )
        return new

    def _run_once(self, params, extra, batch: Batch, key, step) -> Ran:
        """One pass, and the geometric losses of the modes that need no more."""
        config, weights = self.model.config, self.model.config.geometric
        out = self.model.apply(
            {"params": params}, batch["inputs"], extra.get("ghosts"), train=True,
            rngs={"dropout": key},
        )
        apart, stats, rehearsal = self._summary(params, extra, out, batch, step)
        losses, metrics = {}, self._measured(params, out, batch, step)
        if config.routed:
            terms = geometric.routed_terms(out.layers, config, batch["mask"])
            losses = {"loss/geometric": terms.total(weights)}
            metrics |= terms.metrics() | geometric.routed_angles(out.layers, batch["mask"])
        if config.train_mode == "geometric_fast":
            angles, used = geometric.view_angles(self.model, params)
            metrics |= used
            losses = {"loss/geometric": weights.fast_weight * jnp.mean(jnp.square(angles))}
        if config.router.top_k:
            routings = [layer.routing for layer in out.layers]
            terms = balance.router_losses(routings, config.router, batch["mask"])
            losses, metrics = losses | terms[0], metrics | terms[1]
        stats = jax.tree.map(lambda x: x[None], stats)
        return Ran(out.hidden, out.ghosts, apart, stats, rehearsal, losses, metrics)

    def _run_views(self, params, extra, batch: Batch, key, step) -> Ran:
        """One pass per presentation, and the seed's four-term objective."""
        config = self.model.config
        hidden, state, (apart, stats, rehearsal, seen) = geometric.run_views(
            self.model, params, batch["inputs"], extra.get("ghosts"),
            jnp.arange(config.num_experts), dropout_key=key,
            summarise=lambda out: (
                *self._summary(params, extra, out, batch, step),
                self._measured(params, out, batch, step),
            ),
        )
        apart, rehearsal, seen = jax.tree.map(lambda x: x.mean(0), (apart, rehearsal, seen))
        if config.ghosts.timing == "step":
            stats = jax.tree.map(lambda x: x.mean(0, keepdims=True), stats)
        angles, metrics = geometric.view_angles(self.model, params)
        terms = geometric.view_terms(hidden, angles, batch["mask"])
        losses = {"loss/geometric": terms.total(config.geometric)}
        mean = geometric.mean_view(hidden)
        metrics |= terms.metrics() | seen
        return Ran(mean, state, apart, stats, rehearsal, losses, metrics)

    def _summary(self, params, extra, out: Output, batch: Batch, step) -> tuple[Penalty, Any, Any]:
        """Of one pass: the orthogonality losses, what ghosts wake by, and their rehearsal."""
        config = self.model.config
        features = [compared(layer, config) for layer in out.layers]
        apart = penalty(params, features, batch["mask"], step, extra.get("strength"), config)
        stats = rehearsal = ()
        if config.ghosts.count:
            stats = jax.lax.stop_gradient(self._statistics(params, out, batch))
        if config.ghosts.rehearse:
            who = rehearsing(extra["ghosts"], out.ghosts.levels, config)
            target = self._target(params, batch)
            rehearsal = rehearse(params, out, who, target, batch["mask"], config)
        return apart, stats, rehearsal

    def _measured(self, params, out: Output, batch: Batch, step) -> Metrics:
        """Of one pass: what its experts did, every `measure_every` steps; NaN in between."""
        if not self._measure_every:
            return {}
        due = (step + 1) % self._measure_every == 0
        return measured(due, out.layers, params, self.model.config, batch["mask"])

    def _statistics(self, params, out: Output, batch: Batch):
        """Per layer, what the ghosts' saturation is computed from."""
        if self.model.config.ghosts.statistic == "original":
            return _stack([layer.moments for layer in out.layers])
        target = self._target(params, batch)
        return _stack([
            ghosts.measure(expert_updates(layer, self.model.config), target, batch["mask"])
            for layer in out.layers
        ])

    def _target(self, params, batch: Batch) -> Float[Array, "b t d"]:
        """Per token, the direction in the stream that raises the true next token's logit."""
        head = params["head"]["kernel"]
        wanted = jnp.take(head, batch["targets"], axis=1) - head.mean(1)[:, None, None]
        # Through the output norm's scale.
        return jnp.moveaxis(wanted, 0, -1) * params["output_norm"]["scale"][None, None]


def compared(layer: LayerOutput, config: Model) -> Float[Array, "p b t d"]:
    """What the orthogonality loss compares between the primary experts."""
    if config.orthogonality.measure == "updates":
        return expert_updates(layer, config)
    return layer.outputs[: config.num_experts]


def ghost_metrics(state: ghosts.GhostState, stats: Any) -> Metrics:
    """Levels in use, and the two factors of each layer's saturation."""
    if isinstance(stats, ghosts.Moments):
        stats = jax.vmap(ghosts.original_scores)(stats)
    metrics = {"ghosts/awake": jnp.sum(state.levels > 0).astype(jnp.float32)}
    for i, levels in enumerate(state.levels):
        metrics[f"ghosts/level/layer_{i}"] = levels.mean()
        metrics[f"ghosts/orthogonality/layer_{i}"] = stats.orthogonality[i]
        metrics[f"ghosts/unexplained/layer_{i}"] = stats.unexplained[i]
    return metrics


def background_loss(
    rehearsal: Rehearsal, who: Bool[Array, "l g"], config: Model
) -> tuple[Any, Metrics]:
    """weight · Σ (1 - alignment) over the ghosts that rehearse, and what is logged.

    A sum, so that no ghost learns faster because others are awake; each one's part depends neither
    on the size of its updates nor on that of the target.
    """
    weight = config.ghosts.background_weight
    if not weight:
        return 0.0, {"ghosts/comparing": who.any(1).sum().astype(jnp.float32)}
    count = jnp.maximum(who.sum(1), 1)
    means = rehearsal.alignment.sum(1) / count
    metrics = {f"ghosts/alignment/layer_{i}": mean for i, mean in enumerate(means)}
    loss = weight * jnp.sum(jnp.where(who, 1 - rehearsal.alignment, 0))
    return loss, metrics | {"loss/background": loss}


def _stack(parts: list) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
