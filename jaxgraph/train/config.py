"""Options of the loop, of optimisers and of devices."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from jaxgraph.fields import Count, Fraction, NonNegative, Positive, PositiveFloat, Range


@dataclass(frozen=True)
class Train:
    """What the loop does and how often."""

    steps: Positive = 1000
    """Optimiser steps in all."""
    steps_per_call: Positive = 1
    """Steps scanned in one compiled call; raise it for tiny models, where dispatch dominates."""
    log_every: Positive = 10
    """Steps between log rows."""
    diagnostics_every: Positive = 100
    """Steps between expensive metrics `diagnostics/...` (norms of every group, what experts do),
    computed on the device; their rows are always logged."""
    eval_every: Positive = 200
    """Steps between evaluations; the last step is always evaluated."""
    eval_batches: Count = 0
    """Batches of an evaluation; 0 takes the whole validation split."""
    save_every: Positive = 200
    """Steps between checkpoints; the last step is always saved."""
    keep_latest: Positive = 2
    """Newest checkpoints to keep."""
    keep_best: Count = 1
    """Checkpoints with the lowest validation loss to keep besides."""
    nonfinite: Literal["abort", "skip"] = "abort"
    """On a loss or gradient that is not finite: stop (the last good state is kept), or drop the
    step and count it."""
    log_buffer: Positive = 50
    """Log rows gathered before one write to disk."""
    history: Positive = 1000
    """Log rows kept in memory for whoever calls `fit`."""
    progress: Literal["auto", "bar", "plain", "off"] = "auto"
    """Progress display; `auto` draws a bar on a terminal and prints lines elsewhere."""
    matmul_precision: Literal["default", "tensorfloat32", "float32"] = "default"
    """Of products of float32 matrices; `default` is the device's, TF32 on recent NVIDIA GPUs."""
    profile: Count = 0
    """Steps to trace, behind the first call, into the folder `profile` of the run; 0 for none."""
    compile_cache: bool = True
    """Keep compiled programs beside the run folders, so that a second start need not compile."""

    def problems(self) -> Iterator[tuple[str, str]]:
        for name in ("steps", "eval_every", "save_every"):
            if getattr(self, name) % self.steps_per_call:
                yield name, (
                    f"{getattr(self, name)} is not a multiple of steps_per_call "
                    f"{self.steps_per_call}; allowed: multiples, since a call cannot be split"
                )


@dataclass(frozen=True)
class Parallel:
    """Devices and processes to use (docs/scaling.md)."""

    backend: Literal["mesh", "pmap"] = "mesh"
    """`mesh`: one program over sharded arrays. `pmap`: the same step on each device, with all of
    the state."""
    data: Annotated[int, Range(-1)] = -1
    """Devices, or groups of `expert` devices, that share each batch; -1 takes all there are."""
    expert: Annotated[int, Range(-1)] = 1
    """Devices that share out the stacked experts of a mixture; -1 takes what `data` leaves."""
    fsdp: bool = False
    """Share out parameters, optimiser state and frozen weights over the devices, instead of a copy
    on each."""
    processes: Count = 1
    """Processes of the run; 0 asks JAX_NUM_PROCESSES or the cluster (Slurm, Open MPI, ...)."""
    process: Annotated[int, Range(-1)] = -1
    """Which of them this one is, from 0; -1 asks JAX_PROCESS_ID or the cluster."""
    coordinator: str = ""
    """HOST:PORT at which process 0 listens; empty asks JAX_COORDINATOR_ADDRESS or the cluster."""
    timeout: Positive = 60
    """Seconds of silence after which a process counts as lost, and the others end."""

    def problems(self) -> Iterator[tuple[str, str]]:
        for name in ("data", "expert"):
            if getattr(self, name) == 0:
                yield name, "0 devices cannot train; allowed: -1 (all) or at least 1"
        if self.data == self.expert == -1:
            yield "expert", "-1, and data is -1 too; allowed: a number for one of them"
        if self.backend == "pmap" and (self.fsdp or self.expert != 1):
            key = "fsdp" if self.fsdp else "expert"
            yield key, f"got {getattr(self, key)}, but pmap copies the state; allowed: backend mesh"
        if self.processes and self.process >= self.processes:
            yield "process", (
                f"got {self.process} of {self.processes} processes; allowed: -1 (ask) or 0 to "
                f"{self.processes - 1}"
            )


@dataclass(frozen=True)
class Schedule:
    """Learning rate over the steps, as a factor of the group's rate."""

    kind: Literal["constant", "linear", "cosine", "cosine_periodic", "step"] = "cosine"
    """`cosine_periodic` rises again after `decay_steps`, as PyTorch's CosineAnnealingLR does.
    `step` falls by the factor `gamma` every `period` steps, as its StepLR does."""
    warmup_steps: Count = 0
    """Linear rise from 0, before the decay."""
    decay_steps: Count = 0
    """Step at which the decay ends, warm-up included; 0 means the run's last step."""
    final: Fraction = 0.0
    """Factor at the end of the decay."""
    period: Positive = 1000
    """Steps between the falls of `step`, counted from the end of the warm-up."""
    gamma: Fraction = 0.5
    """Factor of each fall of `step`."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.decay_steps and self.decay_steps <= self.warmup_steps:
            yield "decay_steps", (
                f"{self.decay_steps} is not above warmup_steps {self.warmup_steps}; "
                "allowed: 0 (the run's last step) or more than the warm-up"
            )


@dataclass(frozen=True)
class Group:
    """Optimiser of one group of parameters."""

    kind: Literal["adamw", "adam", "sgd", "lion", "frozen"] = "adamw"
    """`frozen` leaves the group as it was made."""
    lr: PositiveFloat = 1e-3
    """Peak learning rate."""
    weight_decay: NonNegative = 0.01
    """Decoupled decay; ignored by `adam` and `sgd`."""
    decay: Literal["matrices", "all"] = "matrices"
    """What decays: weight matrices only, or biases, norms and embeddings too (PyTorch's way)."""
    b1: Annotated[float, Range(0, 0.9999)] = 0.9
    """Decay of the first moment; momentum of `sgd`."""
    b2: Annotated[float, Range(0, 0.999999)] = 0.999
    """Decay of the second moment."""
    eps: PositiveFloat = 1e-8
    """Added outside the root."""
    clip: NonNegative = 0.0
    """Largest gradient norm of this group; 0 leaves it alone."""
    schedule: Schedule = Schedule()
