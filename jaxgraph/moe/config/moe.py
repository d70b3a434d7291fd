"""A whole run: model, text, optimisers, sampling."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.data.config import TextData
from jaxgraph.fields import Count, NonNegative, Positive, PositiveFloat
from jaxgraph.moe.config.model import Model
from jaxgraph.train.config import Group


@dataclass(frozen=True)
class Optim:
    """Optimisers: one group each for primary experts, ghosts, rotations and everything else."""

    expert: Group = Group()
    ghost: Group = Group()
    rotation: Group = Group(kind="adam", lr=1e-3)
    """Turns of `geometric_routed`, and the seed's rotator."""
    shared: Group = Group()
    """Embeddings, couplers, output norm and head."""
    trainable: Literal["all", "experts_only", "all_but_experts", "expert_norms"] = "all"
    """`experts_only` leaves the shared group untrained, as the seed does (docs/parity.md, D2).
    `all_but_experts` leaves experts and ghosts as they are born; with `expert_norms` only their
    norms learn, in the shared group. Those two ask what turns are worth (docs/results.md)."""
    clip: NonNegative = 1.0
    """Largest gradient norm over all trained groups together; 0 turns clipping off."""
    accumulate: Positive = 1
    """Micro-batches a step; their sum equals one big batch."""
    loss_chunk: Positive = 256
    """Tokens whose logits are held at once."""


@dataclass(frozen=True)
class Sampling:
    """Text shown at the end of a run and by `scripts/generate.py`."""

    tokens: Positive = 100
    """New tokens."""
    temperature: PositiveFloat = 0.8
    """Below 1 likely tokens become likelier; above 1 all become more alike."""
    top_k: Count = 50
    """Most likely tokens to draw from; 0 draws from all."""


@dataclass(frozen=True)
class Moe:
    """Geometric MoE language model."""

    model: Model = Model()
    data: TextData = TextData()
    optim: Optim = Optim()
    sampling: Sampling = Sampling()

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.data.seq_len > self.model.max_seq_len:
            yield "data.seq_len", (
                f"{self.data.seq_len} is above model.max_seq_len {self.model.max_seq_len}; "
                "allowed: at most that"
            )
        if self.data.batch_size % self.optim.accumulate:
            yield "data.batch_size", (
                f"{self.data.batch_size} is not a multiple of optim.accumulate "
                f"{self.optim.accumulate}; allowed: multiples"
            )
        if self.model.ghosts.timing == "forward" and self.optim.accumulate > 1:
            yield "model.ghosts.timing", (
                "'forward' changes levels in every micro-batch; allowed with accumulate > 1: 'step'"
            )
        coupling = self.model.ghosts.lr_coupling
        if self.model.ghosts.count and coupling != "none":
            if self.optim.ghost.schedule.kind != "constant":
                yield "optim.ghost.schedule.kind", (
                    f"{self.optim.ghost.schedule.kind!r} with ghosts.lr_coupling {coupling!r}, "
                    "which follows the experts' schedule; allowed: 'constant'"
                )
            if self.optim.expert.kind == "frozen":
                yield "model.ghosts.lr_coupling", (
                    f"{coupling!r} follows the rate of experts that are frozen; allowed: 'none'"
                )
        if self.model.train_mode == "geometric" and self.optim.accumulate > 1:
            yield "optim.accumulate", (
                f"{self.optim.accumulate} with train_mode 'geometric', whose orthogonality "
                "compares whole batches; allowed: 1"
            )
        if self.model.router.top_k and self.optim.trainable == "experts_only":
            yield "optim.trainable", (
                "'experts_only' with a router, which would stay as random as it began; allowed: "
                "'all', or model.router.top_k 0"
            )
