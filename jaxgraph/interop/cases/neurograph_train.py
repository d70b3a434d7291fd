"""Golden training: one step in detail, then parameters and residuals after every sample
(spec/neurograph.md, 11, 12 and 14)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases.neurograph_forward import (
    Network,
    Trace,
    asis_trace,
    canon_trace,
    check_network,
    compare_trace,
    load_network,
    traced,
)
from jaxgraph.neurograph.faithful import encodings
from jaxgraph.neurograph.faithful.cell import Indices
from jaxgraph.neurograph.faithful.gradients import credit_gradient, index_gradient
from jaxgraph.neurograph.faithful.readout import class_logits, cosines
from jaxgraph.neurograph.faithful.training import (
    Answer,
    Learned,
    Objective,
    OutputStep,
    answer,
    learn_outputs,
)
from jaxgraph.neurograph.faithful.updates import Rates, Residuals, apply_updates

RATES = Rates(phase=0.015, mag=0.012)
GIVEN = {"labels", "temperature", "smoothing"}


class Sample(NamedTuple):
    """One sample of the run."""

    trace: Trace
    active: np.ndarray
    """Of the trainer's output nodes."""
    answer: Answer
    step: OutputStep
    before: Learned
    after: Learned


def check(case: Case, checks: Checks) -> None:
    """Recomputes one file."""
    network = load_network(case, "")
    checks.given |= GIVEN
    check_network(network, checks)
    codes = encodings.code_signals(
        network["class_phase"], network["class_mag"], network.dynamics.tables
    )
    samples = run_samples(network, codes)
    first = samples[0]
    compare_trace(network, checks, "fw_", first.trace)
    check_outputs(network, checks, codes, first)
    check_credit(network, checks, codes, first)
    check_trajectory(network, checks, samples)


def run_samples(network: Network, codes: np.ndarray) -> list[Sample]:
    """All samples in order; each starts from the parameters that the one before left."""
    dynamics, outputs = network.dynamics, network.trained_outputs
    engine, arrays = network.engine(), network.case.arrays
    objective = Objective(
        float(arrays.get("temperature", 1.0)), float(arrays.get("smoothing", 0.0))
    )
    passed = jax.jit(lambda nodes, *sample: traced(dynamics, nodes, *sample))

    @jax.jit
    def learn(learned, phase, mag, active, label):
        signals = dynamics.tables.signal(phase, mag)
        said = answer(objective, codes, signals, active, label)
        return said, *learn_outputs(
            dynamics.tables, objective, RATES, codes, learned, outputs, signals, active
        )

    zeros = jnp.zeros(network.nodes.phase.shape)
    learned, samples = Learned(network.nodes, Residuals(zeros, zeros)), []
    labels = network["labels"]
    for phase, mag, label in zip(network["in_phase"], network["in_mag"], labels, strict=True):
        if engine is None:
            found = canon_trace(network, passed(learned.nodes, phase, mag))
        else:
            nodes = Indices(*map(np.asarray, learned.nodes))
            found = asis_trace(network, engine, nodes, phase, mag)
        active = np.isin(outputs, found.out_nodes)
        # Places of inactive outputs hold anything; a fixed shape compiles once.
        full = [np.zeros((len(outputs), phase.shape[1]), np.int32) for _ in range(2)]
        full[0][active], full[1][active] = found.out_phase, found.out_mag
        said, after, step = jax.device_get(learn(learned, *full, active, label))
        samples.append(Sample(found, active, said, step, jax.device_get(learned), after))
        learned = after
    return samples


def check_outputs(
    network: Network, checks: Checks, codes: np.ndarray, sample: Sample
) -> None:
    """The output nodes of the first sample: signals, gradients, both passes of updates."""
    tables, found, active = network.dynamics.tables, sample.trace, sample.active
    signals = tables.cos[found.out_phase] * tables.exp_sin[found.out_mag]
    checks.compare("out_nodes", found.out_nodes, "exact")
    checks.compare("out_signals", signals, "neuro_value")
    checks.compare("upstream_grad", sample.step.upstream[active], "neuro_value")
    first = Indices(*(np.zeros_like(x) for x in sample.before.nodes))
    for i, name in enumerate(("phase", "mag")):
        checks.compare(f"out_{name}_grad", sample.step.gradient[i][active], "neuro_value")
        checks.compare(f"upd1_{name}", sample.step.first[i][active], "exact")
        checks.compare(f"upd2_{name}", sample.step.second[i][active], "exact")
        first[i][network.trained_outputs[active]] = sample.step.first[i][active]
    once = apply_updates(Indices(*map(jnp.asarray, sample.before.nodes)), first, tables)
    checks.compare("phase_after_first", once.phase, "exact")
    checks.compare("mag_after_first", once.mag, "exact")
    cosine = cosines(jnp.asarray(signals), jnp.asarray(codes))
    checks.compare("eval_cosine", cosine, "neuro_value")
    mean = class_logits(cosine, jnp.ones(len(signals)))
    checks.compare("eval_prediction", np.argmax(mean), "exact")
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    checks.compare("class_signals_normalized", unit, "neuro_value")


def check_credit(network: Network, checks: Checks, codes: np.ndarray, sample: Sample) -> None:
    """Local credit of every active slot, from its activation and from its node's parameters."""
    tables, states = network.dynamics.tables, sample.trace.states
    slots = np.nonzero(states["mask"][-1])[0]
    nodes = states["slot_node"][-1][slots]
    target = codes[int(network["labels"][0])]
    checks.compare("credit_slots", slots, "exact")
    checks.compare("credit_target", target, "neuro_value")
    # A slot that two nodes shared may have lost its node.
    known = nodes[nodes >= 0]
    for prefix, places, phase, mag in (
        ("credit", nodes, states["phase"][-1][slots], states["mag"][-1][slots]),
        ("creditp", known, *(x[known] for x in sample.after.nodes)),
    ):
        signals = tables.cos[phase] * tables.exp_sin[mag]
        cosine, gradient = credit_gradient(jnp.asarray(signals), jnp.asarray(target))
        by_index = index_gradient(tables, jnp.asarray(phase), jnp.asarray(mag), gradient)
        for name, value in {"nodes": places, "phase": phase, "mag": mag}.items():
            checks.compare(f"{prefix}_{name}", value, "exact")
        for name, value in {
            "signals": signals, "cos": cosine, "grad_signal": gradient,
            "phase_grad": by_index.phase, "mag_grad": by_index.mag,
        }.items():  # fmt: skip
            checks.compare(f"{prefix}_{name}", value, "neuro_value")


def check_trajectory(network: Network, checks: Checks, samples: list[Sample]) -> None:
    """The run, sample by sample; logits are NaN where no output is active."""
    said = [sample.answer for sample in samples]
    logits = np.stack([x.logits if x.answered else np.full_like(x.logits, np.nan) for x in said])
    expected = checks.case.arrays.get("traj_logits")
    if expected is not None:
        if logits.shape == expected.shape:  # absent on both sides: equal
            same = np.isnan(logits) & np.isnan(expected)
            logits, expected = np.where(same, 0, logits), np.where(same, 0, expected)
        checks.compare_with("traj_logits", logits, expected, "neuro_value")
    checks.compare("traj_loss", np.array([x.loss for x in said]), "neuro_value")
    checks.compare("traj_acc", np.array([x.right for x in said]), "exact")
    masks = [sample.trace.states["mask"][-1] for sample in samples]
    checks.compare("traj_n_active", np.array([mask.sum() for mask in masks]), "exact")
    checks.compare("traj_n_steps", np.array([s.trace.n_steps for s in samples]), "exact")
    checks.compare("traj_out_count", np.array([s.active.sum() for s in samples]), "exact")
    for i, name in enumerate(("phase", "mag")):
        after = np.stack([sample.after.nodes[i] for sample in samples])
        checks.compare(f"traj_node_{name}_after", after, "exact")
        residuals = np.stack([sample.after.residuals[i] for sample in samples])
        checks.compare(f"traj_acc_{name}_after", residuals, "neuro_value")
