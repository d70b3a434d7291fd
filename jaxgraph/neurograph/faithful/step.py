"""A training step of the faithful mode: the samples of a batch one after the other, each from the
indices that the one before left (spec/neurograph.md, section 12)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.neurograph.config.faithful import Faithful
from jaxgraph.neurograph.faithful.accumulation import (
    Accumulation,
    Buffer,
    accumulate,
    apply_accumulated,
    due,
)
from jaxgraph.neurograph.faithful.balancing import balance
from jaxgraph.neurograph.faithful.cell import Indices
from jaxgraph.neurograph.faithful.gradients import (
    IndexGradient,
    credit_gradient,
    index_gradient,
)
from jaxgraph.neurograph.faithful.propagation import Dynamics, Passed, forward
from jaxgraph.neurograph.faithful.training import (
    Answer,
    Learned,
    Objective,
    OutputStep,
    answer,
    clip_rows,
    learn_outputs,
)
from jaxgraph.neurograph.faithful.updates import Rates


class Sample(NamedTuple):
    """What one sample gives: indices of the input nodes ``[i, d]``, label, whether it is real, and
    a random key where outputs are balanced."""

    inputs: Indices
    label: Any
    real: Any
    key: Any = None


class Memory(NamedTuple):
    """What outlives a sample: indices and residuals, gathered credit if any, samples learned, and
    how often each output was active in this epoch where outputs are balanced."""

    learned: Learned
    buffer: Buffer | None
    samples: Any
    counts: Any = None


class Outcome(NamedTuple):
    """Of one sample."""

    answer: Answer
    timesteps: Any
    mask: Any
    """Nodes active at the end."""
    step: OutputStep
    active: Any
    """Of the output nodes."""


class Trainer:
    """The original's rule under a set of options; methods are pure."""

    def __init__(self, config: Faithful, dynamics: Dynamics):
        rule, self.dynamics = config.rule, dynamics
        self._rule = rule
        self._outputs = np.nonzero(dynamics.topology.is_output)[0]
        self._objective = Objective(
            rule.temperature, rule.smoothing, rule.clip, rule.magnitude_ends == "wrap"
        )
        options = rule.accumulate
        self.accumulation = (
            Accumulation(options.steps, options.lr_scaling, options.buffer)
            if options.steps
            else None
        )

    def read(
        self, nodes: Indices, codes: Float[Array, "c d"], inputs: Indices, label: Int[Array, ""]
    ) -> tuple[Answer, Passed]:
        """A forward pass and what its outputs say."""
        passed = forward(self.dynamics, nodes, *inputs)
        return self._answer(passed, codes, label), passed

    def init_counts(self) -> Array | None:
        """Activations of the outputs at the start of an epoch; None where they do not matter."""
        balanced = self._rule.balance.strategy != "off"
        return jnp.zeros(len(self._outputs), jnp.int32) if balanced else None

    def learn(
        self, memory: Memory, codes: Float[Array, "c d"], sample: Sample
    ) -> tuple[Memory, Outcome]:
        """One sample; one that is not real changes nothing."""
        passed = forward(self.dynamics, memory.learned.nodes, *sample.inputs)
        if memory.counts is not None:
            state = balance(
                self._rule.balance, self.dynamics.tables, passed.state, self._outputs,
                memory.counts, sample.key,
            )  # fmt: skip
            passed = passed._replace(state=state)
        said = self._answer(passed, codes, sample.label)
        signals, active = self._outputs_of(passed)
        active = active & sample.real
        learned, step = learn_outputs(
            self.dynamics.tables, self._objective, self._rates(memory.samples), codes,
            memory.learned, self._outputs, signals, active, twice=self.accumulation is None,
        )  # fmt: skip
        buffer = memory.buffer
        if buffer is not None:
            # The original leaves a sample without an answer before it comes to credit.
            present = passed.state.mask & sample.real & said.answered
            learned, buffer = self._gather(
                learned, buffer, passed, codes[sample.label], present, step, active
            )
        counts = None if memory.counts is None else memory.counts + active
        new = Memory(learned, buffer, memory.samples + sample.real, counts)
        return new, Outcome(said, passed.timesteps, passed.state.mask, step, active)

    def _gather(
        self,
        learned: Learned,
        buffer: Buffer,
        passed: Passed,
        target: Float[Array, " d"],
        present: Bool[Array, " n"],
        step: OutputStep,
        active: Bool[Array, " o"],
    ) -> tuple[Learned, Buffer]:
        """Credit of the active nodes, and besides it the outputs' own gradients; an update when
        enough samples were seen."""
        tables, options = self.dynamics.tables, self.accumulation
        state = passed.state
        _, gradient = credit_gradient(tables.signal(state.phase, state.mag), target)
        gradient = clip_rows(gradient, self._objective.clip)
        credit = index_gradient(tables, state.phase, state.mag, gradient)
        own = (jnp.where(active[:, None], x, 0.0) for x in step.gradient)
        total = [x.at[self._outputs].add(y) for x, y in zip(credit, own, strict=True)]
        taken = accumulate(buffer, IndexGradient(*total), present, options)
        buffer = jax.tree.map(lambda a, b: jnp.where(jnp.any(present), a, b), taken, buffer)
        moved, emptied = apply_accumulated(
            learned.nodes, buffer, self._rule.accumulate.rate, tables, options
        )
        now = due(buffer, options) & jnp.any(present)
        nodes, buffer = jax.tree.map(
            lambda a, b: jnp.where(now, a, b), (moved, emptied), (learned.nodes, buffer)
        )
        return learned._replace(nodes=nodes), buffer

    def _answer(
        self, passed: Passed, codes: Float[Array, "c d"], label: Int[Array, ""]
    ) -> Answer:
        signals, active = self._outputs_of(passed)
        return answer(self._objective, codes, signals, active, label)

    def _rates(self, samples: Int[Array, ""]) -> Rates:
        rule = self._rule
        if not rule.warmup:
            return Rates(rule.phase_rate, rule.mag_rate)
        share = jnp.minimum(1.0, (samples + 1) / rule.warmup)
        return Rates(rule.phase_rate * share, rule.mag_rate * share)

    def _outputs_of(self, passed: Passed) -> tuple[Float[Array, "o d"], Bool[Array, " o"]]:
        state = passed.state
        phase, mag = state.phase[self._outputs], state.mag[self._outputs]
        return self.dynamics.tables.signal(phase, mag), state.mask[self._outputs]
