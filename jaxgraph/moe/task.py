"""The geometric MoE language model as a task: its losses, its optimiser, its data."""

import math
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgraph.data.corpus import Corpus, load_corpus
from jaxgraph.data.pipeline import token_batches
from jaxgraph.data.tokenizers import Tokenizer, tokenizer_from_json
from jaxgraph.errors import UserError
from jaxgraph.moe import geometric, ghosts, strength
from jaxgraph.moe.config import Model, Moe, Sampling
from jaxgraph.moe.generate import generate
from jaxgraph.moe.layer import LayerOutput, expert_updates
from jaxgraph.moe.model import LanguageModel, Output, init_params
from jaxgraph.moe.penalty import Penalty, applies, penalty, specialization_metrics
from jaxgraph.nn.losses import chunked_cross_entropy
from jaxgraph.train.config import Group
from jaxgraph.train.optim import group_norms, make_optimizer
from jaxgraph.train.state import TrainState, new_state
from jaxgraph.train.step import LossOutput, make_train_step
from jaxgraph.train.task import Batch, Batches, Metrics

RULES = [
    ("^rotator/|/rotation/", "rotation"),
    ("/ghosts/", "ghost"),
    ("/experts/", "expert"),
    ("", "shared"),
]
TOKENIZER_FILE = "tokenizer.json"


class Ran(NamedTuple):
    """What the passes of one training step leave behind."""

    hidden: Any
    """[b, t, d]: what the head reads."""
    ghosts: ghosts.GhostState | None
    apart: Penalty
    """The orthogonality losses."""
    stats: Any
    """What ghosts wake by, for each change of their levels; one, or one per presentation."""
    losses: Metrics
    """Added to the cross-entropy."""
    metrics: Metrics


class MoeTask:
    """See `jaxgraph.train.task.Task`."""

    def __init__(
        self,
        config: Moe,
        *,
        total_steps: int,
        diagnostics_every: int,
        seed: int,
        artifacts: dict[str, str] | None = None,
    ):
        self.config, self._seed, self._artifacts = config, seed, artifacts or {}
        model = config.model
        if model.vocab_size == 0:
            model = replace(model, vocab_size=self.tokenizer.vocab_size)
        elif model.vocab_size < self.tokenizer.vocab_size:
            raise UserError(
                f"task.model.vocab_size: {model.vocab_size} is below the "
                f"{self.tokenizer.vocab_size} tokens of {self.tokenizer.name}; allowed: 0 (the "
                "tokenizer's) or at least that"
            )
        self.model = LanguageModel(model)
        optim = config.optim
        shared = optim.shared if optim.trainable == "all" else Group(kind="frozen")
        groups = {
            "expert": optim.expert, "ghost": optim.ghost, "rotation": optim.rotation,
            "shared": shared,
        }
        self._optimizer = make_optimizer(
            groups, RULES, total_steps=total_steps, clip=optim.clip
        )
        self.train_step = make_train_step(
            self.loss,
            self._optimizer,
            accumulate=optim.accumulate,
            update_extra=self._update_extra,
            diagnostics=lambda params, *trees: (
                group_norms(params, *trees, RULES) | specialization_metrics(params, model)
            ),
            diagnostics_every=diagnostics_every,
        )

    @cached_property
    def corpus(self) -> Corpus:
        """The text, tokenised."""
        return load_corpus(self.config.data)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The run's own tokenizer if it has one already, else the corpus's."""
        stored = self._artifacts.get(TOKENIZER_FILE)
        return tokenizer_from_json(stored) if stored else self.corpus.tokenizer

    def init(self, key: Any) -> TrainState:
        init_key, run_key = jax.random.split(key)
        params = init_params(self.model, init_key)
        config = self.model.config
        extra = {"ghosts": ghosts.init_ghosts(config)} if config.ghosts.count else {}
        adaptive = config.orthogonality.adaptive
        if adaptive.enabled and applies(config):
            extra["strength"] = strength.init_strength(
                adaptive, config.num_layers, config.orthogonality.weight_strength
            )
        return new_state(params, self._optimizer.transform.init(params), extra, run_key)

    def frozen(self) -> None:
        return None

    def loss(self, params, frozen, extra, batch: Batch, key, step) -> LossOutput:
        """Cross-entropy of real targets, plus the losses of the mode and of the train mode."""
        del frozen
        config = self.model.config
        run = self._run_views if config.train_mode == "geometric" else self._run_once
        ran = run(params, extra, batch, key, step)
        nll, weight = self._cross_entropy(params, ran.hidden, batch)
        metrics = ran.metrics | ran.losses | ran.apart.metrics | {"loss/cross_entropy": nll}
        stats = {}
        if config.ghosts.count:
            stats["ghosts"] = ran.stats
            metrics |= ghost_metrics(ran.ghosts, jax.tree.map(lambda x: x[-1], ran.stats))
        if "strength" in extra:
            stats["strength"] = (ran.apart.specialization, nll)
        loss = sum(ran.losses.values(), nll) + ran.apart.loss
        return LossOutput(loss, weight, metrics, stats)

    def eval_step(self, state: TrainState, frozen: Any, batch: Batch) -> Metrics:
        del frozen
        out = self.model.apply(
            {"params": state.params}, batch["inputs"], state.extra.get("ghosts")
        )
        nll, weight = self._cross_entropy(state.params, out.hidden, batch)
        return {"loss": nll, "weight": weight}

    def batches(self, split: str) -> Batches:
        data = self.config.data
        return token_batches(
            self._checked_corpus, split, seq_len=data.seq_len, batch_size=data.batch_size,
            packing=data.packing, seed=self._seed,
        )

    def derive(self, metrics: dict[str, float], split: str) -> dict[str, float]:
        loss = metrics["loss"]
        per_byte = loss / math.log(2) / self.corpus.bytes_per_token(split)
        return metrics | {"perplexity": math.exp(min(loss, 20.0)), "bits_per_byte": per_byte}

    def describe(self) -> dict[str, str]:
        corpus = self._checked_corpus
        sizes = ", ".join(f"{name} {len(split.tokens):,}" for name, split in corpus.splits.items())
        return {
            "text": f"{corpus.description} ({corpus.licence})",
            "tokenizer": f"{self.tokenizer.name}, {self.tokenizer.vocab_size:,} tokens",
            "tokens": sizes,
        }

    def baselines(self, split: str = "validation") -> dict[str, float]:
        return {"unigram entropy": self.corpus.unigram_entropy(split)}

    def artifacts(self) -> dict[str, str]:
        return {TOKENIZER_FILE: self.tokenizer.to_json()}

    def showcase(self, state: TrainState) -> str:
        slots = self.model.config.max_seq_len
        start = self.corpus.splits["validation"].tokens[: min(16, slots // 2)]
        prompt = self.tokenizer.decode([int(i) for i in start])
        room = slots - max(len(self.tokenizer.encode(prompt)), 1)
        if room < 1:
            return ""
        sampling = self.config.sampling
        sampling = replace(sampling, tokens=min(sampling.tokens, room))
        return f"[{prompt}]{self.generate(state, prompt, sampling, seed=0)}"

    def generate(self, state: TrainState, prompt: str, sampling: Sampling, seed: int) -> str:
        """Continues a prompt; the text ends before the first end-of-text token.

        Raises:
          UserError: prompt and new tokens together exceed the model's positions.
        """
        # An empty prompt starts as every passage does: behind the end of another.
        ids = self.tokenizer.encode(prompt) or [self.tokenizer.eos_id]
        slots = self.model.config.max_seq_len
        if len(ids) + sampling.tokens > slots:
            raise UserError(
                f"prompt of {len(ids)} tokens and {sampling.tokens} new ones exceed the model's "
                f"{slots} positions; shorten the prompt or ask for at most "
                f"{max(slots - len(ids), 0)} tokens"
            )
        padded = np.zeros((1, slots), np.int32)
        padded[0, : len(ids)] = ids
        new = generate(
            self.model, state.params, state.extra.get("ghosts"), jnp.asarray(padded),
            jnp.asarray(len(ids)), jax.random.key(seed), new_tokens=sampling.tokens,
            temperature=sampling.temperature, top_k=sampling.top_k,
        )
        new = [int(i) for i in new[0]]
        if self.tokenizer.eos_id in new:
            new = new[: new.index(self.tokenizer.eos_id)]
        return self.tokenizer.decode([i for i in new if i < self.tokenizer.vocab_size])

    @property
    def _checked_corpus(self) -> Corpus:
        if self.corpus.tokenizer.fingerprint != self.tokenizer.fingerprint:
            raise UserError(
                f"the run's {TOKENIZER_FILE} differs from the tokenizer that task.data gives now; "
                "the text or its source has changed: restore it, or use another workdir"
            )
        return self.corpus

    def _run_once(self, params, extra, batch: Batch, key, step) -> Ran:
        """One pass, and the geometric losses of the modes that need no more."""
        config, weights = self.model.config, self.model.config.geometric
        out = self.model.apply(
            {"params": params}, batch["inputs"], extra.get("ghosts"), train=True,
            rngs={"dropout": key},
        )
        apart, stats = self._summary(params, extra, out, batch, step)
        losses, metrics = {}, {}
        if config.routed:
            terms = geometric.routed_terms(out.layers, config, batch["mask"])
            losses = {"loss/geometric": terms.total(weights)}
            metrics = terms.metrics() | geometric.routed_angles(out.layers, batch["mask"])
        if config.train_mode == "geometric_fast":
            angles, metrics = geometric.view_angles(self.model, params)
            losses = {"loss/geometric": weights.fast_weight * jnp.mean(jnp.square(angles))}
        stats = jax.tree.map(lambda x: x[None], stats)
        return Ran(out.hidden, out.ghosts, apart, stats, losses, metrics)

    def _run_views(self, params, extra, batch: Batch, key, step) -> Ran:
        """One pass per presentation, and the seed's four-term objective."""
        config = self.model.config
        hidden, state, (apart, stats) = geometric.run_views(
            self.model, params, batch["inputs"], extra.get("ghosts"),
            jnp.arange(config.num_experts), dropout_key=key,
            summarise=lambda out: self._summary(params, extra, out, batch, step),
        )
        apart = jax.tree.map(lambda x: x.mean(0), apart)
        if config.ghosts.timing == "step":
            stats = jax.tree.map(lambda x: x.mean(0, keepdims=True), stats)
        angles, metrics = geometric.view_angles(self.model, params)
        terms = geometric.view_terms(hidden, angles, batch["mask"])
        losses = {"loss/geometric": terms.total(config.geometric)}
        mean = geometric.mean_view(hidden)
        return Ran(mean, state, apart, stats, losses, metrics | terms.metrics())

    def _summary(self, params, extra, out: Output, batch: Batch, step) -> tuple[Penalty, Any]:
        """Of one pass: the orthogonality losses, and what ghosts wake by."""
        config = self.model.config
        features = [compared(layer, config) for layer in out.layers]
        apart = penalty(params, features, batch["mask"], step, extra.get("strength"), config)
        stats = ()
        if config.ghosts.count:
            stats = jax.lax.stop_gradient(self._statistics(params, out, batch))
        return apart, stats

    def _cross_entropy(self, params, hidden: Float[Array, "b t d"], batch: Batch):
        weight = batch["mask"].sum()
        total = chunked_cross_entropy(
            hidden, params["head"]["kernel"], params["head"]["bias"], batch["targets"],
            batch["mask"], chunk=self.config.optim.loss_chunk,
        )
        return total / jnp.maximum(weight, 1), weight

    def _statistics(self, params, out: Output, batch: Batch):
        """Per layer, what the ghosts' saturation is computed from."""
        if self.model.config.ghosts.statistic == "original":
            return _stack([layer.moments for layer in out.layers])
        head = params["head"]["kernel"]
        wanted = jnp.take(head, batch["targets"], axis=1) - head.mean(1)[:, None, None]
        # Through the output norm's scale: the direction in the stream that raises the target.
        target = jnp.moveaxis(wanted, 0, -1) * params["output_norm"]["scale"][None, None]
        return _stack([
            ghosts.measure(expert_updates(layer, self.model.config), target, batch["mask"])
            for layer in out.layers
        ])

    def _update_extra(self, extra: Any, stats: Any) -> Any:
        config, new = self.model.config, dict(extra)
        if "ghosts" in stats:
            # One entry, or one per presentation: the seed's ghosts move with each of them.
            for i in range(jax.tree.leaves(stats["ghosts"])[0].shape[0]):
                one = jax.tree.map(lambda x, i=i: x[i], stats["ghosts"])
                if config.ghosts.statistic == "original":
                    one = jax.vmap(ghosts.original_scores)(one)
                saturations = ghosts.saturation(one)
                new["ghosts"] = ghosts.advance(new["ghosts"], saturations, config.ghosts)
        if "strength" in stats:
            options = config.orthogonality
            new["strength"] = strength.advance(
                extra["strength"], *stats["strength"], options.weight_strength, options.adaptive
            )
        return new


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


def _stack(parts: list) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
