"""Our rule against the PyTorch reference, in sizes and directions that no golden case has."""

import jax
import numpy as np
import pytest
import torch

from jaxgraph.neurograph.config.faithful import Dynamics, Faithful, Graph
from jaxgraph.neurograph.faithful.cell import Indices
from jaxgraph.neurograph.faithful.step import Memory, Sample, Trainer
from jaxgraph.neurograph.faithful.task import make_dynamics
from jaxgraph.neurograph.faithful.training import Learned
from jaxgraph.neurograph.faithful.updates import Residuals
from tests.torch_reference import neurograph as reference

SAMPLES = 6


@pytest.mark.parametrize("graph, dynamics, width", [
    (Graph(70, 12, 4, 5, seed=1), Dynamics(top_k=3, decay=0.8, min_strength=0.5), 3),
    (Graph(41, 7, 3, 4, seed=2, edges="forward"), Dynamics(top_k=2, max_timesteps=9), 6),
    (Graph(33, 5, 5, 3, seed=3, edges="forward"), Dynamics(top_k=0, decay=0.9), 4),
], ids=["upstream", "forward", "no radiation"])
def test_training(graph, dynamics, width):
    config = Faithful(graph=graph, dynamics=dynamics, width=width, phase_bins=256, mag_bins=512)
    made = make_dynamics(config)
    rng = np.random.default_rng(graph.seed)
    draw = lambda *shape: Indices(  # noqa: E731
        rng.integers(0, 256, shape).astype(np.int32), rng.integers(0, 512, shape).astype(np.int32)
    )
    nodes, codes = draw(graph.nodes, width), draw(10, width)
    inputs = draw(SAMPLES, graph.inputs, width)
    labels = rng.integers(0, 10, SAMPLES).astype(np.int32)
    zeros = np.zeros((graph.nodes, width), np.float32)

    trainer = Trainer(config, made)
    signals = made.tables.cos[codes.phase] * made.tables.exp_sin[codes.mag]
    memory, found = jax.jit(
        lambda memory, samples: jax.lax.scan(
            lambda memory, sample: trainer.learn(memory, signals, sample), memory, samples
        )
    )(
        Memory(Learned(nodes, Residuals(zeros, zeros)), None, np.int32(0)),
        Sample(inputs, labels, np.ones(SAMPLES, bool)),
    )

    other = reference.NeuroGraph(
        reference.Options(
            256, 512, dynamics.top_k, dynamics.decay, dynamics.min_strength,
            dynamics.max_timesteps, made.min_timesteps, graph.inputs, graph.outputs,
        ),
        [np.nonzero(row)[0].tolist() for row in made.topology.adjacency],
        *map(torch.tensor, nodes), tuple(torch.tensor(x).long() for x in codes),
    )  # fmt: skip
    for i in range(SAMPLES):
        sample = [torch.tensor(x[i]).long() for x in inputs]
        active, steps = other.forward(*sample)
        assert sorted(active) == np.nonzero(found.mask[i])[0].tolist()
        assert steps == found.timesteps[i]
        loss = other.train_sample(*sample, int(labels[i]))
        assert loss == pytest.approx(float(found.answer.loss[i]), abs=2e-5)
    assert np.any(found.step.first.phase) and np.any(found.step.second.mag)
    for ours, theirs in zip(memory.learned.nodes, (other.phase, other.mag), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(memory.learned.residuals, other.residual, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
