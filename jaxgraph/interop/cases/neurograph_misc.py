"""Golden input adapters, class codes, losses, accumulation and diagnostics; sampling and the
genetic operators stand in `neurograph_tuner.py` (spec/neurograph.md, 9-11, 13, 15)."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases import neurograph_tuner
from jaxgraph.interop.rules.neurograph import adapter_from_torch
from jaxgraph.neurograph.faithful import diagnostics, encodings
from jaxgraph.neurograph.faithful.accumulation import (
    Accumulation,
    accumulate,
    apply_accumulated,
    due,
    init_buffer,
)
from jaxgraph.neurograph.faithful.adapter import project, quantise
from jaxgraph.neurograph.faithful.cell import Indices
from jaxgraph.neurograph.faithful.gradients import IndexGradient
from jaxgraph.neurograph.faithful.readout import (
    class_logits,
    cosines,
    cross_entropy,
    top_k_right,
)
from jaxgraph.neurograph.tables import make_tables

GIVEN = {
    "N", "M", "D", "seed", "adp_x", "loss_class_phase", "loss_class_mag", "loss_signals",
    "loss_multi_weights", "loss_batch_logits", "loss_batch_targets", "loss_adaptive_logits",
    "sigloss_pred_phase", "sigloss_pred_mag", "sigloss_tgt_phase", "sigloss_tgt_mag",
    "ga_phase0", "ga_mag0", "ga_grad_phase", "ga_grad_mag", "ga_present", "ga_steps", "ga_buffer",
    "ga_lr", "dg_grad", "dg_update", "dg_lr", "dg_prev", "dg_cur",
    "enc_repo_cache_phase", "enc_repo_cache_mag",
}  # fmt: skip
PATTERN_NORMS = ([1e-8, 1e-9], [20, 30], [1, 1.1, 0.9], [1, 5, 0.01, 0.01, 30], [1, 2, 0.8])


def check(case: Case, checks: Checks) -> None:
    """Recomputes one file."""
    checks.given |= GIVEN
    check_adapters(case, checks)
    check_codes(case, checks)
    check_losses(case, checks)
    check_accumulation(case, checks)
    check_diagnostics(case, checks)
    neurograph_tuner.check(case, checks)


def check_adapters(case: Case, checks: Checks) -> None:
    """Networks of each variant, in evaluation mode."""
    x = jnp.asarray(case["adp_x"])
    for kind in ("mlp", "mlpnone", "fixed"):
        prefix = f"adp_{kind}_"
        results = {f"{prefix}{name}" for name in ("projected", "phase", "mag")}
        weights = {k: v for k, v in case.below(prefix).items() if prefix + k not in results}
        checks.given |= {prefix + name for name in weights}
        projected = project(adapter_from_torch(weights), x)
        found = quantise(projected, int(case["D"]), int(case["N"]), int(case["M"]))
        checks.compare(f"{prefix}projected", projected, "neuro_value")
        checks.compare(f"{prefix}phase", found.phase, "exact")
        checks.compare(f"{prefix}mag", found.mag, "exact")


def check_codes(case: Case, checks: Checks) -> None:
    """Class codes from vectors to refined indices.

    Vectors behind the D-th are rounding noise of one machine: quantising starts from the case's.
    """
    kinds = [k.removesuffix("_params") for k in case.arrays if k.endswith("_params")]
    for kind in kinds:
        classes, width, phase_bins, mag_bins = map(int, case[f"{kind}_params"])
        checks.given.add(f"{kind}_params")
        tables = make_tables(phase_bins, mag_bins)
        vectors = encodings.orthogonal_vectors(classes, width)
        given = case.shaped(f"{kind}_continuous", (classes, width))
        whole = np.concatenate([vectors[:width], given[width:]])
        checks.compare_with(f"{kind}_continuous", whole, given, "neuro_value")
        start = encodings.quantise_vectors(given, tables)
        end = encodings.refine_codes(*start, tables)
        for stage, codes in (("init_", start), ("", end)):
            checks.compare(f"{kind}_{stage}phase", codes[0], "exact")
            checks.compare(f"{kind}_{stage}mag", codes[1], "exact")
        likeness = encodings.similarity(*end, tables)
        off = likeness[~np.eye(classes, dtype=bool)]
        checks.compare(f"{kind}_similarity", likeness, "neuro_value")
        for stage, codes in (("init", start), ("final", end)):
            score = encodings.separation(*codes, tables)
            checks.compare(f"{kind}_score_{stage}", score, "neuro_value")
        stats = [off.mean(), off.max(), off.min(), off.std(ddof=1), 1 - np.abs(off).mean()]
        checks.compare(f"{kind}_stats", np.array(stats), "neuro_value")
    if "enc_structured_phase" in case.arrays:
        shape = case["enc_structured_phase"].shape
        tables = make_tables(int(case["N"]), int(case["M"]))
        phase, mag = encodings.structured_codes(*shape, tables)
        checks.compare("enc_structured_phase", phase, "exact")
        checks.compare("enc_structured_mag", mag, "exact")


def check_losses(case: Case, checks: Checks) -> None:
    """Logits, cross entropies, accuracies, and the temperature that follows the confidence."""
    tables = make_tables(int(case["N"]), int(case["M"]))
    codes = encodings.code_signals(case["loss_class_phase"], case["loss_class_mag"], tables)
    cosine = cosines(jnp.asarray(case["loss_signals"]), jnp.asarray(codes))
    logits = class_logits(cosine, jnp.ones(len(cosine)))
    checks.compare("loss_logits", logits, "neuro_value")
    weights = jnp.asarray(case["loss_multi_weights"], jnp.float32)
    checks.compare("loss_multi_logits", class_logits(cosine, weights), "neuro_value")
    labels = jnp.arange(len(codes))
    each = jnp.broadcast_to(logits, (len(codes), len(codes)))
    batch, target = jnp.asarray(case["loss_batch_logits"]), jnp.asarray(case["loss_batch_targets"])
    for suffix, how in (("", (1.0, 0.0)), ("_t05_s01", (0.5, 0.1))):
        checks.compare(f"loss_value{suffix}", cross_entropy(each, labels, *how), "neuro_value")
        mean = jnp.mean(cross_entropy(batch, target, *how))
        checks.compare(f"loss_batch_value{suffix}", mean, "neuro_value")
    checks.compare("loss_probs_t05", jax.nn.softmax(logits / 0.5), "neuro_value")
    checks.compare("loss_batch_acc", jnp.mean(top_k_right(batch, target, 1)), "neuro_value")
    checks.compare("loss_batch_top3", jnp.mean(top_k_right(batch, target, 3)), "neuro_value")
    check_adaptive(case, checks)
    pairs = [(f"sigloss_{side}_phase", f"sigloss_{side}_mag") for side in ("pred", "tgt")]
    a, b = (encodings.code_signals(case[p], case[m], tables) for p, m in pairs)
    checks.compare("sigloss", np.mean(np.square(a - b)), "neuro_value")


def check_adaptive(case: Case, checks: Checks) -> None:
    """The temperature that falls while the network is unsure; the label is always 0."""
    temperature, confidence, rows = 1.0, 0.5, []
    for logits in jnp.asarray(case["loss_adaptive_logits"]):
        sure = float(jnp.max(jax.nn.softmax(logits / temperature)))
        confidence = 0.9 * confidence + 0.1 * sure
        rises = confidence > 0.7
        temperature = temperature + 0.01 if rises else max(0.1, temperature - 0.01)
        loss = cross_entropy(logits, jnp.asarray(0), temperature, 0.0)
        rows.append([float(loss), temperature, confidence])
    checks.compare("loss_adaptive_trace", np.array(rows), "neuro_value")


def check_accumulation(case: Case, checks: Checks) -> None:
    """Gradients of some nodes in some samples, applied at every `ga_steps`-th sample."""
    tables = make_tables(int(case["N"]), int(case["M"]))
    options = Accumulation(steps=int(case["ga_steps"]), buffer=int(case["ga_buffer"]))
    nodes = Indices(jnp.asarray(case["ga_phase0"]), jnp.asarray(case["ga_mag0"]))
    buffer, rows, updated, total = init_buffer(*nodes.phase.shape), [], [], 0
    columns = (case["ga_grad_phase"], case["ga_grad_mag"], case["ga_present"])
    for phase, mag, present in zip(*columns, strict=True):
        known = int(buffer.count.sum())
        gradient = IndexGradient(jnp.asarray(phase), jnp.asarray(mag))
        buffer = accumulate(buffer, gradient, jnp.asarray(present), options)
        total += int(buffer.count.sum()) - known
        updated.append(0)
        if due(buffer, options):
            updated[-1] = int((buffer.count > 0).sum())
            nodes, buffer = apply_accumulated(nodes, buffer, float(case["ga_lr"]), tables, options)
        rows.append(np.stack(nodes, 1))
    checks.compare("ga_state", np.stack(rows), "exact")
    checks.compare("ga_nodes_updated", np.array(updated), "exact")
    checks.compare("ga_total", total, "exact")
    checks.compare("ga_lr_scale", options.lr_scale, "float64")
    checks.compare("ga_avg_norm", buffer.norm, "neuro_statistic")
    checks.compare("ga_variance", buffer.variance, "neuro_statistic")


def check_diagnostics(case: Case, checks: Checks) -> None:
    """Numbers about updates, and the names of gradient patterns."""
    grad, update = jnp.asarray(case["dg_grad"]), jnp.asarray(case["dg_update"])
    rate = float(case["dg_lr"])
    effect = diagnostics.effectiveness(grad, update, rate)
    checks.compare("dg_effectiveness", effect, "neuro_statistic")
    loss = diagnostics.quantisation_loss(grad, update, rate)
    checks.compare("dg_quant_loss", loss, "neuro_value")
    change = diagnostics.mean_change(
        jnp.asarray(case["dg_prev"]), jnp.asarray(case["dg_cur"]), int(case["N"])
    )
    checks.compare("dg_change", change, "neuro_value")
    names = [diagnostics.PATTERNS[diagnostics.flow_pattern(jnp.array(x))] for x in PATTERN_NORMS]
    same = np.array(names) == case["dg_patterns"]
    checks.compare_with("dg_patterns", same, np.ones(len(names)), "exact")
