"""A split through the model: rows without padding, and what is told of them."""

import jax
import numpy as np
import pytest

from jaxgraph.vae.evaluation import evaluate_rows, summarise
from jaxgraph.vae.metrics.levels import noise_floor
from jaxgraph.vae.model import MixtureVae
from tests.vae import models


@pytest.mark.parametrize("name", ["real", "mixture prior"])
def test_rows_and_their_summary(name):
    model = MixtureVae(models.small(name))
    params = models.random_params(model.config)
    batches = [models.batch(8, seed=i) for i in range(5)]
    batches[-1]["mask"][3:] = 0
    rows = evaluate_rows(model, params, batches, samples=16, key=jax.random.key(0))
    assert rows.mu.shape == (35, model.latents) and rows.label.shape == (35,)
    assert (rows.label == np.concatenate([b["label"] for b in batches])[:35]).all()
    report = summarise(rows, normal_prior=name == "real")
    # More samples than one: a tighter bound.
    assert report["negative_iwae"] < report["negative_elbo"]
    assert report["negative_elbo"] == pytest.approx(report["nll"] + report["kl"], rel=1e-5)
    # Beside the cross-entropy of the bits there is the noise, whose entropy is known.
    floor, spread = noise_floor(models.INPUTS, 0.05), (models.INPUTS / 2 / 35) ** 0.5
    assert report["nll"] - report["bits_nll"] == pytest.approx(floor, abs=4 * spread)
    assert 0 <= report["active_units"] <= model.latents
    parts = [value for part, value in report.items() if part.startswith("kl/")]
    assert len(parts) == (3 if name == "real" else 0)
    if parts:
        estimate = sum(parts)
        assert estimate == pytest.approx(report["kl"], abs=float(rows.kl.std()))
