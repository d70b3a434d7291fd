"""The loss of a step: one pass of each frozen model for all of its terms."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxgraph.latentwire.adapter import Adapter, calibrate, rms
from jaxgraph.latentwire.alignment import alignment_mse, cosine_distance, manifold
from jaxgraph.latentwire.config import Losses
from jaxgraph.latentwire.encoder import InterlinguaEncoder, Wire
from jaxgraph.latentwire.heads import DeepPrefix, LatentAdapter
from jaxgraph.latentwire.hearer import Before, Frozen, Hearer, drop_slots
from jaxgraph.latentwire.losses import (
    answer_loss,
    chunked_answer_loss,
    divergence,
    entropy,
    kept_divergence,
    mean_over,
    over_steps,
)
from jaxgraph.latentwire.schedule import Plan
from jaxgraph.latentwire.wire import diversity
from jaxgraph.lm.cache import past_of
from jaxgraph.lm.reading import Reading
from jaxgraph.nn import across
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

    def __init__(
        self,
        encoder: InterlinguaEncoder,
        adapters: Mapping[str, Adapter],
        hearers: Mapping[str, Hearer],
        losses: Losses,
        prefixes: Mapping[str, DeepPrefix] | None = None,
        blocks: Mapping[str, Mapping[int, LatentAdapter]] | None = None,
    ):
        """`prefixes` are of models that hear keys and values instead of soft prompts, `blocks` of
        models whose layers read the wire."""
        self.encoder, self.adapters, self.hearers = encoder, adapters, hearers
        self.losses, self.prefixes, self.blocks = losses, prefixes or {}, blocks or {}

    def encode(self, params: Any, batch: Batch) -> Wire:
        """The wire of a batch's texts."""
        inputs = batch["bytes"], batch["bytes_mask"]
        return self.encoder.apply({"params": params["encoder"]}, *inputs)

    def prompt(
        self, params: Any, frozen: Frozen, name: str, z: jax.Array, lengths: Any = None
    ) -> tuple[jax.Array, jax.Array]:
        """A model's soft prompt out of what it hears, calibrated and raw."""
        raw = self.adapters[name].apply({"params": params[f"adapter_{name}"]}, z, lengths)
        return calibrate(raw, frozen.rms), raw

    def before(
        self, params: Any, frozen: Frozen, name: str, z: jax.Array, prompt: jax.Array,
        count: int | None = None,
    ) -> Before:  # fmt: skip
        """What a model hears of a wire and its soft prompt, or of their first slots alone."""
        hearer = self.hearers[name]
        if name in self.prefixes:
            past = self.prefixes[name].apply({"params": params[f"deep_prefix_{name}"]}, prompt)
            cut = past_of(past.keys[:, :, :, :count], past.values[:, :, :, :count])
            found = hearer.nothing(frozen, len(prompt), cut)
        else:
            found = hearer.compose(frozen, prompt[:, :count])
        if name not in self.blocks:
            return found
        modules, own = tuple(self.blocks[name].items()), params[f"latent_adapters_{name}"]
        each = tuple(own[str(layer)] for layer, _ in modules)
        return found.replace(reading=Reading(modules, each, z[:, :count]))

    def hear(
        self, params: Any, frozen: Frozen, name: str, z: jax.Array, count: int | None = None
    ) -> Before:
        """The same of a wire whose answer's length is not known."""
        prompt, _ = self.prompt(params, frozen, name, z)
        return self.before(params, frozen, name, z, prompt, count)

    def __call__(
        self, params: Any, frozen: Mapping[str, Frozen], batch: Batch, plan: Plan, key: Any
    ) -> tuple[jax.Array, Metrics]:
        """Loss and metrics, means over the real rows."""
        wire = self.encode(params, batch)
        curriculum = self.losses.curriculum
        if min(curriculum.first_keep, curriculum.last_keep) < 1:
            kept = drop_slots(wire.shared, plan.keep, key)
            wire = wire.replace(shared=jnp.where(plan.is_text > 0, wire.shared, kept))
        rows = batch["mask"] > 0
        heard = wire.shared if wire.shared.shape[1] else wire.of(next(iter(self.hearers)))
        totals, metrics = [], {"wire/diversity": diversity(heard, rows)}
        for name in self.hearers:
            lengths = batch[name].get("length")
            prompt, raw = self.prompt(params, frozen[name], name, wire.of(name), lengths)
            before = self.before(params, frozen[name], name, wire.of(name), prompt)
            total, own = self.of_prompt(frozen[name], batch, plan, before, prompt, raw, name)
            totals.append(total)
            metrics |= {f"{name}/{key}": value for key, value in own.items()}
        scales = [params[f"adapter_{name}"]["scale"][0] for name in self.hearers]
        penalty = sum(jnp.square(scale - 1) for scale in scales)
        return sum(totals) / len(totals) + self.losses.scale * penalty, metrics

    def of_prompt(
        self, frozen: Frozen, batch: Batch, plan: Plan, before: Before, prompt: Any, raw: Any,
        name: str,
    ) -> tuple[jax.Array, Metrics]:  # fmt: skip
        """Terms of one model that hears a soft prompt; `raw` is the one before calibration."""
        losses, hearer, own = self.losses, self.hearers[name], batch[name]
        rows = batch["mask"] > 0
        answer, real = own["answer"], own["answer_mask"] & rows[:, None]
        logits = hearer.answer_logits(frozen, before, answer, own["answer_mask"])
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
        extra = {}
        if losses.distil and losses.distil_cache:
            known = own["taught_ids"], own["taught_logs"]
            steps = known[0].shape[1]
            apart = kept_divergence(logits[:, :steps], *known, losses.temperature)
            kd = over_steps(apart, real[:, :steps], plan.k)
            extra["kd"] = (losses.distil * latent, kd * scale * latent)
        elif losses.distil or losses.text:
            teach = partial(self._teach, frozen, own, real, name)
            kd, text = teach(logits, plan)
            extra["kd"] = (losses.distil * latent, kd * scale * latent)
            extra["text_tf"] = (losses.text, text * plan.is_text)
        if losses.entropy:
            extra["entropy"] = (-losses.entropy * latent, mean_over(entropy(logits[:, 0]), rows))
        extra |= self._shape_terms(frozen, own, plan, prompt, raw, name, rows)
        for key, (weight, value) in extra.items():
            total += weight * value
            metrics[key] = value
        return total, metrics

    def _teach(
        self, frozen: Frozen, own: Batch, real: Any, name: str, logits: Any, plan: Plan
    ) -> tuple[jax.Array, jax.Array]:
        """Divergence from the model that reads the text, and that model's own loss."""
        text = self.hearers[name].text_logits(
            frozen, own["text"], own["text_mask"], own["answer"], own["answer_mask"]
        )
        text = jax.lax.stop_gradient(text)
        apart = divergence(logits, text, self.losses.temperature)
        text_loss = chunked_answer_loss(text, own["answer"], real, self.losses.alignment)
        return over_steps(apart, real, plan.k), text_loss

    def _shape_terms(
        self, frozen: Frozen, own: Batch, plan: Plan, prompt: Any, raw: Any, name: str, rows: Any
    ) -> dict[str, tuple[Any, Any]]:
        """Weights and values of what pulls soft prompts towards embeddings."""
        losses, hearer, terms = self.losses, self.hearers[name], {}
        if losses.manifold:
            terms["manifold"] = losses.manifold, manifold(prompt, frozen.mean, frozen.deviation)
        if losses.curriculum.warmup and losses.warmup_align:
            begin = int(hearer.begins_with_bos)
            end = begin + losses.warmup_align_tokens
            spelled = hearer.embed(frozen, own["answer"][:, begin:end])
            real = own["answer_mask"][:, begin:end] & rows[:, None]
            slots = min(prompt.shape[1], spelled.shape[1])
            value = alignment_mse(prompt[:, :slots], spelled[:, :slots], real[:, :slots])
            terms["align"] = 1.0, losses.warmup_align * value * plan.is_text
        if losses.first_align:
            goal, slot = hearer.embed(frozen, own["first"][:, None])[:, 0], prompt[:, 0]
            parts = {
                "cosine": mean_over(cosine_distance(slot, goal), rows),
                "mse": alignment_mse(slot[:, None], goal[:, None], rows[:, None]),
            }
            kinds = parts if losses.first_align_metric == "both" else [losses.first_align_metric]
            terms["latent_align"] = 1.0, losses.first_align * sum(parts[kind] for kind in kinds)
        if losses.raw_rms:
            strength = jnp.sqrt(across.mean(jnp.mean(jnp.square(raw))))
            terms["raw_rms"] = losses.raw_rms, jnp.square(strength - frozen.rms)
        return terms
