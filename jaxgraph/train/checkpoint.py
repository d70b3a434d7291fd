"""Checkpoints: Orbax (asynchronous, atomic) plus checksums, so that damage is found before use."""

import json
import logging
import os
import shutil
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from jaxgraph.errors import UserError
from jaxgraph.train import processes
from jaxgraph.train.state import TrainState

training = ocp.training
logging.getLogger("absl").setLevel(logging.ERROR)


class Checkpoints:
    """The checkpoints of one run: the newest few and the best.

    Each holds the state and, as metadata, the position in the data and the resolved config. Use as
    a context manager: leaving it waits for the last write. Several processes call it alike, on one
    folder that all of them see.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_latest: int = 2,
        keep_best: int = 1,
        config: dict | None = None,
        read_only: bool = False,
    ):
        """Opens the folder, and sets damaged checkpoints aside with a warning.

        Args:
          config: the resolved config, kept in every checkpoint.
          read_only: leave a writer's unfinished checkpoints alone; it may be at work.
        """
        self.folder = Path(folder).absolute()
        self._checksums = self.folder.with_name(self.folder.name + "_checksums")
        self._config = config or {}
        self._unsealed: int | None = None
        if not read_only:
            if processes.is_main():
                self._set_damaged_aside()
            processes.barrier("checkpoints are looked through")
        keep = training.preservation_policies
        policies = [keep.LatestN(keep_latest)]
        if keep_best:
            policies.append(
                keep.BestN(
                    get_metric_fn=lambda metrics: metrics["loss"],
                    n=keep_best,
                    reverse=True,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._orbax = training.Checkpointer(
            self.folder,
            save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=keep.AnyPreservationPolicy(policies),
            cleanup_tmp_directories=not read_only,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.wait()
        self._orbax.close()

    @property
    def steps(self) -> list[int]:
        """Steps that can be restored, oldest first."""
        return sorted(saved.step for saved in self._orbax.checkpoints)

    @property
    def best_step(self) -> int | None:
        """Step with the lowest validation loss, if any was evaluated."""
        scored = [c for c in self._orbax.checkpoints if c.metrics]
        return min(scored, key=lambda c: c.metrics["loss"]).step if scored else None

    def config_of(self, step: int) -> dict:
        """Resolved config under which a step was saved."""
        return self._metadata(step)["config"]

    def save(
        self, step: int, state: TrainState, position: dict[str, int], loss: float | None = None
    ) -> None:
        """Begins to write a checkpoint; returns once the state is copied.

        Args:
          position: where in the data the next step reads, and what else the loop counts.
          loss: validation loss at this step, which ranks the best.
        """
        self.wait()
        finite = loss is not None and loss < float("inf")
        self._orbax.save_checkpointables_async(
            step,
            {"state": state},
            metrics={"loss": loss} if finite else None,
            custom_metadata={"position": position, "config": self._config},
            force=True,
        )
        self._unsealed = step

    def wait(self) -> None:
        """Until everything is on disk, with its checksums."""
        self._orbax.wait()
        if self._unsealed is not None:
            if processes.is_main():
                self._seal(self._unsealed)
            self._unsealed = None

    def restore(
        self, like: TrainState, step: int | None = None
    ) -> tuple[TrainState, dict[str, int]] | None:
        """The newest intact state (or that of `step`) and its position; None if there is none.

        Args:
          like: `ShapeDtypeStruct` tree with the shardings to restore onto; they need not be those
            it was saved with.
        """
        for candidate in reversed(self.steps) if step is None else [step]:
            try:
                state = self._orbax.load_checkpointables(candidate, {"state": like})["state"]
                return state, self._metadata(candidate)["position"]
            except Exception as error:  # Orbax raises many kinds for a file it cannot read.
                # Other processes may have read it, and would go on from another step.
                if step is not None or jax.process_count() > 1:
                    raise UserError(
                        f"cannot read checkpoint {candidate}: {_first_line(error)}"
                    ) from error
                self._set_aside(candidate, f"cannot be read ({_first_line(error)})")
        return None

    def _metadata(self, step: int) -> dict:
        return self._orbax.metadata(step).custom_metadata

    def _seal(self, step: int) -> None:
        """Writes the checksums of a finished step and drops those of deleted ones."""
        self._checksums.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dict(_file_checksums(self.folder / str(step))))
        part = self._checksums / f"{step}.json.part"
        part.write_text(text)
        os.replace(part, self._checksums / f"{step}.json")
        for old in self._checksums.glob("*.json"):
            if not (self.folder / old.stem).exists():
                old.unlink()

    def _set_damaged_aside(self) -> None:
        # Before Orbax opens the folder: one unreadable file in one step would make it refuse all.
        for seal in self._checksums.glob("*.json"):
            step = self.folder / seal.stem
            if step.is_dir() and dict(_file_checksums(step)) != json.loads(seal.read_text()):
                self._set_aside(int(seal.stem), "differs from its checksums")

    def _set_aside(self, step: int, why: str) -> None:
        target = self.folder.with_name(self.folder.name + "_damaged") / str(step)
        print(
            f"warning: checkpoint {step} {why}; moved to {target}, using an older one",
            file=sys.stderr,
        )
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.folder / str(step), target)
        (self._checksums / f"{step}.json").unlink(missing_ok=True)
        if hasattr(self, "_orbax"):
            self._orbax.reload()


def _file_checksums(folder: Path) -> Iterator[tuple[str, list[int]]]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        yield str(path.relative_to(folder)), [len(data), zlib.crc32(data)]


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def as_template(shapes: Any, shardings: Any) -> Any:
    """Shapes with shardings: what `Checkpoints.restore` takes."""
    return jax.tree.map(
        lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, shardings
    )
