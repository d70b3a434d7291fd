"""The geometric MoE language model as a task: its losses, its optimiser, its data."""

import math
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.data.corpus import Corpus, load_corpus
from jaxgraph.data.pipeline import token_batches
from jaxgraph.data.tokenizers import Tokenizer, tokenizer_from_json
from jaxgraph.errors import UserError
from jaxgraph.moe import balance, ghosts, strength
from jaxgraph.moe.config import Moe, Sampling
from jaxgraph.moe.generate import generate
from jaxgraph.moe.handover import make_handover
from jaxgraph.moe.model import LanguageModel, init_params
from jaxgraph.moe.objective import Objective
from jaxgraph.moe.penalty import applies, specialization_metrics
from jaxgraph.train.config import Group
from jaxgraph.train.optim import group_norms, make_optimizer, make_schedule
from jaxgraph.train.placement import EXPERT, SPREAD
from jaxgraph.train.state import TrainState, new_state
from jaxgraph.train.step import make_train_step
from jaxgraph.train.task import Batch, Batches, Metrics

RULES = [
    ("^rotator/|/rotation/", "rotation"),
    ("/ghosts/", "ghost"),
    ("/experts/", "expert"),
    ("", "shared"),
]
PLACEMENT = [("/experts/", EXPERT), ("", SPREAD)]
EXTRA_RULES = {"expert_norms": [("/(experts|ghosts)/norm", "shared")]}
FROZEN = {
    "all": (),
    "experts_only": ("shared",),
    "all_but_experts": ("expert", "ghost"),
    "expert_norms": ("expert", "ghost"),
}
"""Groups that `optim.trainable` leaves untrained."""
TOKENIZER_FILE = "tokenizer.json"


class MoeTask:
    """See `jaxgraph.train.task.Task`."""

    placement = PLACEMENT

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
        self.objective = Objective(self.model, config.optim.loss_chunk, diagnostics_every)
        optim = config.optim
        rules = [*EXTRA_RULES.get(optim.trainable, []), *RULES]
        groups = {
            "expert": optim.expert, "ghost": optim.ghost, "rotation": optim.rotation,
            "shared": optim.shared,
        } | dict.fromkeys(FROZEN[optim.trainable], Group(kind="frozen"))
        self._optimizer = make_optimizer(
            groups, rules, total_steps=total_steps, clip=optim.clip
        )
        self.train_step = make_train_step(
            self.objective,
            self._optimizer,
            accumulate=optim.accumulate,
            update_extra=self.objective.update_extra,
            scale_updates=make_handover(
                model.ghosts, make_schedule(optim.expert.schedule, 1.0, total_steps),
                self._optimizer.rates.get("ghost"),
            ),
            diagnostics=lambda params, *trees: (
                group_norms(params, *trees, rules) | specialization_metrics(params, model)
            ),
            diagnostics_every=diagnostics_every,
        )
        if model.router.top_k:
            self.train_step = balance.summarised(self.train_step, model.router)

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

    def eval_step(self, state: TrainState, frozen: Any, batch: Batch) -> Metrics:
        del frozen
        out = self.model.apply(
            {"params": state.params}, batch["inputs"], state.extra.get("ghosts")
        )
        nll, weight = self.objective.cross_entropy(state.params, out.hidden, batch)
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
