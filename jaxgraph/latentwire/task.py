"""LatentWire as a task: frozen models, the objective, the optimiser, the questions."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.data.lm_files import lm_path
from jaxgraph.data.qa import Example
from jaxgraph.data.rows import Row
from jaxgraph.latentwire.build import init_params, make_modules
from jaxgraph.latentwire.config import LatentWire
from jaxgraph.latentwire.examine import answers, examine
from jaxgraph.latentwire.hearer import Frozen, freeze
from jaxgraph.latentwire.losses import mean_over
from jaxgraph.latentwire.objective import WireObjective
from jaxgraph.latentwire.schedule import plan_of
from jaxgraph.latentwire.sources import SEPARATOR, Source, lm_names, nested
from jaxgraph.latentwire.teacher import taught
from jaxgraph.latentwire.wire import diversity
from jaxgraph.lm.load import Lm, load_lm
from jaxgraph.nn.losses import cross_entropy
from jaxgraph.train.optim import make_optimizer
from jaxgraph.train.state import TrainState, new_state
from jaxgraph.train.step import LossOutput, make_train_step
from jaxgraph.train.task import Batch, Batches, Metrics


class LatentWireTask:
    """See `jaxgraph.train.task.Task`."""

    def __init__(
        self,
        config: LatentWire,
        *,
        total_steps: int,
        seed: int,
        lms: Mapping[str, Lm] | None = None,
        source: Source | None = None,
    ):
        """`lms` and `source` replace those that the config names."""
        self.config, self._seed, self._total = config, seed, total_steps
        names = lm_names(config.lms)
        self.lms = dict(lms) if lms else {
            name: load_lm(lm_path(where), config.compute, config.compute.dtype)
            for name, where in zip(names, config.lms, strict=True)
        }  # fmt: skip
        self._frozen = {name: freeze(lm.params) for name, lm in self.lms.items()}
        self.source = source or Source(config, {k: lm.tokenizer for k, lm in self.lms.items()})
        self.modules = make_modules(config, self.lms)
        self.objective = WireObjective(self.modules, config.losses)
        self._optimizer = make_optimizer(
            {"all": config.optim.group},
            [("", "all")],
            total_steps=total_steps,
            clip=config.optim.clip,
        )
        self.train_step = make_train_step(
            self._loss, self._optimizer, accumulate=config.optim.accumulate
        )

    def init(self, key: Any) -> TrainState:
        init_key, run_key = jax.random.split(key)
        params = init_params(self.modules, self.config, self.frozen(), init_key)
        return new_state(params, self._optimizer.transform.init(params), {}, run_key)

    def frozen(self) -> dict[str, Frozen]:
        return self._frozen

    def _loss(
        self, params: Any, frozen: Any, extra: Any, batch: Batch, key: Any, step: jax.Array
    ) -> LossOutput:
        del extra
        plan = plan_of(self.config.losses, self._total, step)
        batch = nested(batch, lengths=self.config.adapter.lengths)
        loss, metrics = self.objective(params, frozen, batch, plan, key)
        return LossOutput(loss, batch["mask"].sum(), metrics)

    def eval_step(self, state: TrainState, frozen: Any, batch: Batch) -> Metrics:
        """Loss per answer token through the wire, and the share of right tokens, over all models;
        the answer's length is not told. `swapped_loss` is that of hearing another text's wire: as
        low where the wire has collapsed, and `diversity` is then 0."""
        batch = nested(batch, lengths=False)
        wire = self.modules.encode(state.params, batch)
        rows, found = batch["mask"] > 0, []
        for name, hearer in self.modules.hearers.items():
            own, z = batch[name], wire.of(name)
            real = own["answer_mask"] & rows[:, None]

            def heard(z, name=name, hearer=hearer, own=own):
                before = self.modules.hear(state.params, frozen[name], name, z)
                return hearer.answer_logits(
                    frozen[name], before, own["answer"], own["answer_mask"]
                )

            logits = heard(z)
            right = jnp.equal(logits.argmax(-1), own["answer"]).astype(jnp.float32)
            found.append({
                "loss": mean_over(cross_entropy(logits, own["answer"]), real),
                "token_acc": mean_over(right, real),
                "first_acc": mean_over(right[:, 0], rows),
                "swapped_loss": mean_over(
                    cross_entropy(heard(jnp.roll(z, 1, axis=0)), own["answer"]), real
                ),
                "diversity": diversity(z, rows),
            })  # fmt: skip
        means = {key: sum(one[key] for one in found) / len(found) for key in found[0]}
        return means | {"weight": rows.sum() * 1.0}

    def batches(self, split: str) -> Batches:
        losses, more = self.config.losses, {}
        if split == "train" and losses.distil and losses.distil_cache:
            more = self._taught
        return self.source.batches(split, self._seed, more)

    @cached_property
    def _taught(self) -> Row:
        """What the models make of the texts themselves."""
        rows, found = self.source.rows("train"), {}
        for name, hearer in self.modules.hearers.items():
            own = {
                part: rows[f"{name}{SEPARATOR}{part}"]
                for part in ("text", "text_mask", "answer", "answer_mask")
            }
            one = taught(hearer, self.frozen()[name], self.config.losses, own)
            found |= {f"{name}{SEPARATOR}{key}": array for key, array in one.items()}
        return found

    def derive(self, metrics: dict[str, float], split: str) -> dict[str, float]:
        del split
        return metrics | {"perplexity": float(np.exp(min(metrics["loss"], 80)))}

    def describe(self) -> dict[str, str]:
        slots, width = self.config.encoder.slots, self.config.encoder.width
        return self.source.describe() | {"wire": f"{slots} slots of {width} numbers"}

    def baselines(self, split: str = "validation") -> dict[str, float]:
        """Loss per token of the best constant distribution over tokens, without any model."""
        rows = self.source.rows(split)
        found = []
        for name in self.lms:
            answer = rows[f"{name}{SEPARATOR}answer"][rows[f"{name}{SEPARATOR}answer_mask"]]
            counts = np.unique(answer, return_counts=True)[1]
            share = counts / counts.sum()
            found.append(-(share * np.log(share)).sum())
        return {"token frequencies": float(np.mean(found))}

    def artifacts(self) -> dict[str, str]:
        return {}

    def showcase(self, state: TrainState) -> str:
        return ""

    def answer(self, state: TrainState, text: str, question: str) -> dict[str, str]:
        """What each model says that hears a text and a question through the wire."""
        rows = self.source.rows_of([Example(text, question, ("",))])
        batch, said = nested(rows, lengths=False), {}
        for name in self.lms:

            @jax.jit
            def tell(params, frozen, batch, name=name):
                z = self.modules.encode(params, batch).of(name)
                return self.modules.hear(params, frozen, name, z)

            (answer,) = answers(self, name, tell(state.params, self.frozen()[name], batch))
            said[name] = answer.strip()
        return said

    def evaluate_more(self, state: TrainState, split: str) -> dict[str, Any]:
        """Answers and losses through the wire beside text, shorter text, pooled embeddings and
        nothing; what the wire costs; whether it says anything."""
        return examine(self, state, split)
