"""Everything about a trained model that needs the model: bounds, the parts of its KL, latents."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxgraph.vae.bits import observe
from jaxgraph.vae.bounds import iwae_bound, log_prior
from jaxgraph.vae.decomposition import active_units, decompose_kl
from jaxgraph.vae.divergence import kl_normal, log_gaussian
from jaxgraph.vae.likelihood import log_likelihood
from jaxgraph.vae.model import MixtureVae


class Rows(NamedTuple):
    """What the model says of each row of a split, as NumPy arrays."""

    mu: Any
    """[n, z]: features for probes."""
    logvar: Any
    """[n, z]"""
    z: Any
    """[n, z]: one sample each."""
    nll: Any
    """[n]: at that sample, in nats."""
    kl: Any
    """[n]: in closed form, or with a mixture prior at that sample."""
    iwae: Any
    """[n]: importance-weighted bound of log p."""
    label: Any
    """[n]"""


def evaluate_rows(
    model: MixtureVae, params: Any, batches: Iterable[Any], *, samples: int, key: Any
) -> Rows:
    """Runs the model over batches of `bits`, `label` and `mask`; padding is left out."""
    run = jax.jit(partial(_evaluate_batch, model, samples=samples))
    parts = []
    for i, batch in enumerate(batches):
        found = run(params, batch["bits"], jax.random.fold_in(key, i))
        real = np.asarray(batch["mask"]) > 0
        label = np.asarray(batch["label"])[real]
        parts.append(Rows(*(np.asarray(part)[real] for part in found), label))
    return Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def in_chunks(
    packed: UInt8[np.ndarray, "n bytes"], labels: Int[np.ndarray, " n"], size: int = 500
) -> Iterator[dict[str, Any]]:
    """Rows as batches of one size, the last filled up with rows of mask 0."""
    for start in range(0, len(packed), size):
        bits, label = packed[start : start + size], labels[start : start + size]
        lack = size - len(bits)
        yield {
            "bits": np.pad(bits, ((0, lack), (0, 0))),
            "label": np.pad(label, (0, lack)),
            "mask": np.pad(np.ones(len(bits), np.float32), (0, lack)),
        }


def encode_rows(
    model: MixtureVae, params: Any, packed: UInt8[np.ndarray, "n bytes"], key: Any
) -> Float[np.ndarray, "n z"]:
    """Posterior means of all rows, each seen once with noise of its own."""

    @jax.jit
    def encode(params, bits, key):
        x = observe(bits, key, model.config.likelihood)
        return model.apply({"params": params}, x, method="encode").mu

    labels = np.zeros(len(packed), np.int32)
    parts = [
        np.asarray(encode(params, chunk["bits"], jax.random.fold_in(key, i)))
        for i, chunk in enumerate(in_chunks(packed, labels))
    ]
    return np.concatenate(parts)[: len(packed)]


def summarise(rows: Rows, *, normal_prior: bool = True) -> dict[str, float]:
    """Means in nats, units in use, and under a standard normal prior the parts of the KL."""
    elbo = rows.nll + rows.kl
    report = {
        "negative_elbo": float(elbo.mean()),
        "negative_elbo_error": float(elbo.std(ddof=1) / len(elbo) ** 0.5),
        "negative_iwae": float(-rows.iwae.mean()),
        "nll": float(rows.nll.mean()),
        "kl": float(rows.kl.mean()),
        "active_units": int(active_units(jnp.asarray(rows.mu)).sum()),
    }
    if normal_prior:
        parts = jax.jit(decompose_kl)(*(jnp.asarray(x) for x in (rows.z, rows.mu, rows.logvar)))
        report |= {f"kl/{name}": float(value) for name, value in parts._asdict().items()}
    return report


def _evaluate_batch(model: MixtureVae, params: Any, bits: Any, key: Any, samples: int) -> tuple:
    data_key, latent_key, bound_key = jax.random.split(key, 3)
    x = observe(bits, data_key, model.config.likelihood)
    noise = jax.random.normal(latent_key, (len(x), model.latents))
    out = model.apply({"params": params}, x, noise)
    kl = kl_normal(out.mu, out.logvar).sum(-1)
    if model.config.prior.kind == "mixture":
        prior = model.apply({"params": params}, method="prior")
        kl = log_gaussian(out.z, out.mu, out.logvar).sum(-1) - log_prior(out.z, prior)
    nll = -log_likelihood(x, out.logits, model.config.likelihood)
    bound = iwae_bound(model, params, x, bound_key, samples=samples)
    return out.mu, out.logvar, out.z, nll, kl, bound
