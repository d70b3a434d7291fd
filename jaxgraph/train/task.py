"""What the loop must know of a system."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax

from jaxgraph.train.state import TrainState

Batch = dict[str, Any]
Metrics = dict[str, jax.Array]


@runtime_checkable
class Batches(Protocol):
    """A sequence of batches, such as a `grain.MapDataset`: element i depends on i only."""

    def __len__(self) -> int:
        """Batches; beyond all bounds where they never end."""

    def __getitem__(self, i: Any) -> Any:
        """Batch i, or the batches of a slice."""

    def __iter__(self) -> Iterator[Batch]:
        """Batches in order, perhaps read ahead."""


@runtime_checkable
class Task(Protocol):
    """What to learn; one class per system implements it.

    `train_step` and `eval_step` are pure: no host sync, no side effect, static shapes. They may be
    jitted, vmapped, scanned or mapped over devices by whoever calls them.
    """

    def init(self, key: Any) -> TrainState:
        """The state before the first step; traceable, so that it can be born sharded."""

    def frozen(self) -> Any:
        """Arrays that steps read and nothing changes; never saved. None where there are none."""

    def train_step(
        self, state: TrainState, frozen: Any, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        """One optimiser step. Metrics hold `loss` and at will `group/name` scalars."""

    def eval_step(self, state: TrainState, frozen: Any, batch: Batch) -> Metrics:
        """Means over the real items of one batch, and their number under `weight`."""

    def batches(self, split: str) -> Batches:
        """Batches of "train" (endless), "validation" or "test" (padded to full shape)."""

    def derive(self, metrics: dict[str, float], split: str) -> dict[str, float]:
        """Adds what follows from means over a whole split, such as a perplexity."""

    def describe(self) -> dict[str, str]:
        """Facts for the log: which data, which licence, sizes."""

    def baselines(self, split: str = "validation") -> dict[str, float]:
        """Losses on a split of predictors without a network, for comparison."""

    def artifacts(self) -> dict[str, str]:
        """Files (name: text) that a run folder must keep beside its checkpoints."""

    def showcase(self, state: TrainState) -> str:
        """Something to look at when training ends; empty if there is nothing."""


@runtime_checkable
class Placed(Protocol):
    """A task that says which arrays devices share out (`jaxgraph.train.placement`)."""

    placement: Any
    """Rules over the paths of the state, and of frozen arrays as `frozen/...`."""


@runtime_checkable
class Examined(Protocol):
    """A task that can tell more of a trained state than means over a split."""

    def evaluate_more(self, state: TrainState, split: str) -> dict[str, Any]:
        """What else holds on "validation" or "test", beside what chance and baselines give.

        Returns sections by title in the form that `jaxgraph.report_table` prints: values by name,
        or a list of rows; plain Python values, None where a number would not be finite.
        """
