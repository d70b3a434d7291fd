"""The loss of a step: one pass of each frozen model for all of its terms."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxgraph.latentwire.adapter import rms
from jaxgraph.latentwire.config import Losses
from jaxgraph.latentwire.hearer import Before, Frozen, Pass, drop_slots
from jaxgraph.latentwire.losses import (
    answer_loss,
    chunked_answer_loss,
    divergence,
    entropy,
    kept_divergence,
    mean_over,
    over_steps,
    state_distance,
)
from jaxgraph.latentwire.modules import Modules
from jaxgraph.latentwire.schedule import Plan
from jaxgraph.latentwire.terms import Terms, gist, prompt_terms
from jaxgraph.latentwire.wire import diversity
from jaxgraph.nn.losses import cross_entropy

Metrics = dict[str, jax.Array]
Batch = Mapping[str, Any]


class WireObjective:
    """Total and parts of the loss (spec/latentwire.md, section 6).

    A batch holds `bytes` and `bytes_mask` ``[b t]``, `mask` ``[b]`` (1 on real rows), and for each
    model by name: `answer`, `answer_mask` ``[b t]``, `first` ``[b]``, and where something is learnt
    from the text `text`, `text_mask` ``[b s]``, padded on the left, or what the model made of it,
    `taught_ids`, `taught_logs` ``[b k n]``; `length` ``[b]`` where the adapter may know it.
    """

    def __init__(self, modules: Modules, losses: Losses):
        self.modules, self.losses = modules, losses

    def __call__(
        self, params: Any, frozen: Mapping[str, Frozen], batch: Batch, plan: Plan, key: Any
    ) -> tuple[jax.Array, Metrics]:
        """Loss and metrics, means over the real rows."""
        modules, losses = self.modules, self.losses
        wire = modules.encode(params, batch)
        curriculum = losses.curriculum
        if min(curriculum.first_keep, curriculum.last_keep) < 1:
            kept = drop_slots(wire.shared, plan.keep, key)
            wire = wire.replace(shared=jnp.where(plan.is_text > 0, wire.shared, kept))
        rows = batch["mask"] > 0
        heard = wire.shared if wire.shared.shape[1] else wire.of(next(iter(modules.hearers)))
        totals, metrics = [], {"wire/diversity": diversity(heard, rows)}
        for i, (name, hearer) in enumerate(modules.hearers.items()):
            z, own = modules.refine(params, wire.of(name)), batch[name]
            prompt, raw = modules.prompt(params, frozen[name], name, z, own.get("length"))
            before = modules.before(params, frozen[name], name, z, prompt)
            total, found = self.of_prompt(frozen[name], batch, plan, before, prompt, raw, name)
            if losses.gist.weight:
                found["gist"] = gist(
                    modules.gists[name], params[f"gist_{name}"], hearer, frozen[name], own, z, rows,
                    losses.gist.dropped, jax.random.fold_in(key, i + 1),
                )  # fmt: skip
                total += losses.gist.weight * found["gist"]
            totals.append(total)
            metrics |= {f"{name}/{key}": value for key, value in found.items()}
        scales = [params[f"adapter_{name}"]["scale"][0] for name in modules.hearers]
        penalty = sum(jnp.square(scale - 1) for scale in scales)
        return sum(totals) / len(totals) + losses.scale * penalty, metrics

    def of_prompt(
        self, frozen: Frozen, batch: Batch, plan: Plan, before: Before, prompt: Any, raw: Any,
        name: str,
    ) -> tuple[jax.Array, Metrics]:  # fmt: skip
        """Terms of one model that hears a soft prompt; `raw` is the one before calibration."""
        losses, hearer, own = self.losses, self.modules.hearers[name], batch[name]
        rows = batch["mask"] > 0
        answer, real = own["answer"], own["answer_mask"] & rows[:, None]
        said = hearer.answer_pass(frozen, before, answer, own["answer_mask"], losses.read_layers)
        logits = said.logits
        latent, scale = 1 - plan.is_text, plan.latent_scale
        tf = scale * answer_loss(logits, answer, real, losses.alignment)
        first = scale * mean_over(cross_entropy(logits[:, 0], own["first"]), rows)
        weight = plan.first_weight
        if losses.autoscale:
            ratio = jnp.clip(first / jnp.maximum(tf, 1e-4), 1, 8)
            weight = weight * jax.lax.stop_gradient(jnp.where(latent > 0, ratio, 1.0))
        kce = scale * over_steps(cross_entropy(logits, answer), real, plan.k)
        total = losses.answer * tf + weight * first + losses.k_tokens * kce
        metrics = {
            "tf": tf, "first": first, "first_weight": weight, "kce": kce,
            "first_acc": mean_over(jnp.equal(logits[:, 0].argmax(-1), own["first"]) * 1.0, rows),
            "rms_raw": mean_over(rms(raw)[:, 0, 0], rows), "latent_scale": scale,
            "rms_cal": mean_over(rms(prompt)[:, 0, 0], rows),
        }  # fmt: skip
        extra = self._taught(frozen, own, real, rows, name, said, plan)
        if losses.entropy:
            extra["entropy"] = (-losses.entropy * latent, mean_over(entropy(logits[:, 0]), rows))
        extra |= prompt_terms(losses, hearer, frozen, own, plan.is_text, prompt, raw, rows)
        for key, (weight, value) in extra.items():
            total += weight * value
            metrics[key] = value
        return total, metrics

    def _taught(
        self, frozen: Frozen, own: Batch, real: Any, rows: Any, name: str, said: Pass, plan: Plan
    ) -> Terms:
        """What is learnt from the model that reads the text, and that model's own loss."""
        losses, share = self.losses, plan.latent_scale * (1 - plan.is_text)
        if losses.distil and losses.distil_cache:
            known = own["taught_ids"], own["taught_logs"]
            steps = known[0].shape[1]
            apart = kept_divergence(said.logits[:, :steps], *known, losses.temperature)
            return {"kd": (losses.distil, share * over_steps(apart, real[:, :steps], plan.k))}
        if not (losses.distil or losses.text or losses.states):
            return {}
        later = losses.state_alignment == "compat"
        text = self.modules.hearers[name].text_pass(
            frozen, own["text"], own["text_mask"], own["answer"], own["answer_mask"],
            losses.read_layers, later=later,
        )  # fmt: skip
        apart = divergence(said.logits, text.logits, losses.temperature)
        own_loss = chunked_answer_loss(text.logits, own["answer"], real, losses.alignment)
        terms = {
            "kd": (losses.distil, share * over_steps(apart, real, plan.k)),
            "text_tf": (losses.text, plan.is_text * own_loss),
        }
        if losses.states:
            apart = state_distance(said.states, text.states)
            counted = jnp.broadcast_to(rows[:, None], real.shape) if later else real
            terms["state"] = losses.states, share * over_steps(apart, counted, plan.k)
        return terms
