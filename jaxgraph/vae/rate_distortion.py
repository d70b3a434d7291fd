"""Rate and distortion of a trained model beside the least that noisy bits allow."""

from dataclasses import asdict, dataclass
from typing import Any

import jax

from jaxgraph.vae.evaluation import Rows, evaluate_rows, in_chunks
from jaxgraph.vae.metrics.levels import noise_floor, rate_line
from jaxgraph.vae.model import MixtureVae


@dataclass(frozen=True)
class Point:
    """One model on the plane, in nats a row."""

    rate: float
    """Mean KL."""
    distortion: float
    """Mean negative log-likelihood at one latent sample, over all noise of the data."""
    error: float
    """Standard error of rate plus distortion."""
    least: float
    """Least distortion at this rate for independent fair bits (spec/vae.md, 17)."""
    rows: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def locate(rows: Rows, inputs: int, sigma: float) -> Point:
    """Where rows of a model with the mixture likelihood lie."""
    both = rows.bits + rows.kl
    rate = float(rows.kl.mean())
    return Point(
        rate,
        noise_floor(inputs, sigma) + float(rows.bits.mean()),
        float(both.std(ddof=1) / len(both) ** 0.5),
        rate_line(rate, inputs, sigma),
        len(both),
    )


def measure(model: MixtureVae, params: Any, source: Any, split: str, seed: int) -> Point:
    """The point of a model on a split, with its labels disregarded."""
    chunks = in_chunks(source.packed(split), source.labels(split))
    rows = evaluate_rows(model, params, chunks, samples=1, key=jax.random.key(seed))
    return locate(rows, model.config.inputs, model.config.likelihood.sigma)
