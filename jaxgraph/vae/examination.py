"""What a trained model has learnt, beside what chance, bits and theory give.

Findings in the form of `jaxgraph.report_table`. Probes are fitted and chosen on training rows and
judged on the split in question, which shares no number with them.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.vae.config import Evaluation
from jaxgraph.vae.divergence import kl_normal
from jaxgraph.vae.evaluation import Rows, encode_rows, evaluate_rows, in_chunks, summarise
from jaxgraph.vae.metrics.features import principal_components, raw_bits
from jaxgraph.vae.metrics.levels import rate_line
from jaxgraph.vae.metrics.nulls import separation
from jaxgraph.vae.metrics.probe import probe
from jaxgraph.vae.model import MixtureVae, init_params
from jaxgraph.vae.structure import Structure

ACTIVE_KL = 0.01
"""Mean KL in nats above which a latent dimension counts as used (spec/vae.md, 17)."""
KINDS = ("linear", "mlp")


class Sample(NamedTuple):
    """Different rows of a split and their classes."""

    packed: Any
    """[n, d / 8]"""
    classes: Any
    """[n]"""


def examine(
    model: MixtureVae, params: Any, source: Any, options: Evaluation, split: str, seed: int
) -> dict[str, Any]:
    """Bounds, probes, controls and separation of one split (spec/vae.md, sections 11, 17, 22)."""
    train = _sample(source, "train", options.probe_rows)
    judged = _sample(source, split, options.rows)
    bound_key, encode_key, init_key = jax.random.split(jax.random.key(seed), 3)
    rows = evaluate_rows(
        model, params, in_chunks(*judged), samples=options.samples, key=bound_key
    )
    structure = source.structure()
    features = _features(model, params, structure, (train, judged), encode_key, init_key)
    kept = [name for name in features if name in ("mu", "untrained mu", "raw bits")]
    return {
        "bounds": bounds(model, rows, options.samples),
        "rules without training": structure.rules(*judged),
        "probes of the class": list(_probes(features, train, judged, structure, options, seed)),
        "positive controls": list(
            _controls({k: features[k] for k in kept}, train, judged, structure, options, seed)
        ),
        "separation of the classes": [
            _separation(name, features[name][1], judged.classes, options, seed) for name in kept
        ],
    }


def bounds(model: MixtureVae, rows: Rows, samples: int) -> dict[str, Any]:
    """Bounds in nats a row, with what the latents hold and, for noisy bits, what they could."""
    config = model.config
    normal = config.prior.kind == "normal"
    found = summarise(rows, normal_prior=normal)
    error = 1.96 * found.pop("negative_elbo_error")
    middle = found["negative_elbo"]
    report = {"rows": len(rows.label), "negative_elbo": middle} | {
        "negative_elbo_interval": [middle - error, middle + error],
        f"negative_iwae_{samples}": found.pop("negative_iwae"),
    }
    report |= found | {"latents": model.latents}
    used = report["active_units"]
    if normal:
        each = np.asarray(kl_normal(jnp.asarray(rows.mu), jnp.asarray(rows.logvar)).mean(0))
        used = report["latents_above_0.01_nats"] = int((each > ACTIVE_KL).sum())
    if config.likelihood.kind == "mixture":
        line = rate_line(found["kl"], config.inputs, config.likelihood.sigma)
        report |= {"least_nll_at_this_kl": line, "nll_above_it": found["nll"] - line}
    report["posterior"] = f"{used} of {model.latents} latents in use"
    if not used:
        report["posterior"] = "collapsed onto the prior: no latent is in use"
    return report


def _sample(source: Any, split: str, limit: int) -> Sample:
    packed, labels = source.packed(split), source.labels(split)
    # A number that comes with two labels would count twice in an interval.
    first = np.sort(np.unique(packed, axis=0, return_index=True)[1])[: limit or None]
    return Sample(packed[first], np.asarray(source.class_of)[labels[first]])


def _features(
    model: MixtureVae,
    params: Any,
    structure: Structure,
    samples: tuple[Sample, Sample],
    encode_key: Any,
    init_key: Any,
) -> dict[str, tuple[Any, Any]]:
    """By name: features of the training rows and of the judged ones."""

    def encoded(params: Any) -> tuple[Any, Any]:
        keys = jax.random.split(encode_key)
        first, second = (
            encode_rows(model, params, sample.packed, key)
            for sample, key in zip(samples, keys, strict=True)
        )
        return first, second

    bits = tuple(raw_bits(sample.packed) for sample in samples)
    features = {"mu": encoded(params), "raw bits": bits}
    for name, make in structure.features.items():
        features[name] = tuple(make(sample.packed) for sample in samples)
    count = min(model.latents, bits[0].shape[1])
    features[f"PCA {count}"] = tuple(principal_components(*bits, count=count))
    return features | {"untrained mu": encoded(init_params(model, init_key))}


def _probes(
    features: dict, train: Sample, judged: Sample, structure: Structure, options: Any, seed: int
) -> Iterator[dict[str, Any]]:
    every = np.unique(train.classes)
    tasks = {f"{len(every)} classes": every} | structure.pairs
    for task, classes in tasks.items():
        members = [np.isin(sample.classes, classes) for sample in (train, judged)]
        labels = [s.classes[m] for s, m in zip((train, judged), members, strict=True)]
        for name, arrays in features.items():
            kept = [x[m] for x, m in zip(arrays, members, strict=True)]
            for kind in KINDS:
                yield {"task": task} | _probed(name, kind, kept, labels, options, seed)


def _controls(
    features: dict, train: Sample, judged: Sample, structure: Structure, options: Any, seed: int
) -> Iterator[dict[str, Any]]:
    for task, label in structure.controls.items():
        labels = [label(sample.packed) for sample in (train, judged)]
        for name, arrays in features.items():
            for kind in KINDS:
                yield {"task": task} | _probed(name, kind, arrays, labels, options, seed)


def _probed(
    name: str, kind: str, arrays: Any, labels: Any, options: Evaluation, seed: int
) -> dict[str, Any]:
    cut = len(labels[0]) - len(labels[0]) // 10
    found = probe(
        kind,
        (arrays[0][:cut], labels[0][:cut]),
        (arrays[0][cut:], labels[0][cut:]),
        (arrays[1], labels[1]),
        permutations=options.permutations,
        seed=seed,
    )
    return {
        "features": name, "probe": kind, "accuracy": found.accuracy,
        "interval": [found.low, found.high], "balanced": found.balanced,
        "chance": found.chance, "shuffled": found.null_mean, "p": found.p_value,
        "rows": found.rows,
    }  # fmt: skip


def _separation(
    name: str, z: Any, classes: Any, options: Evaluation, seed: int
) -> dict[str, Any]:
    permutations = -(-options.permutations // 5)
    found = separation(z, classes, permutations=permutations, seed=seed)
    return {
        "features": name, "J": found.permuted.value, "null": found.null,
        "shuffled": found.permuted.null_mean, "adjusted": found.adjusted,
        "eta_squared": found.eta_squared, "p": found.permuted.p_value,
    }
