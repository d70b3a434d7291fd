"""The steps of a task on the devices of a run: one program over a mesh, or one per device."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxgraph.errors import UserError
from jaxgraph.nn import across
from jaxgraph.train import parallel as devices
from jaxgraph.train.checkpoint import as_template
from jaxgraph.train.config import Parallel
from jaxgraph.train.placement import DEFAULT, EXPERT, bytes_by_device, make_shardings
from jaxgraph.train.state import TrainState
from jaxgraph.train.step import scan_steps
from jaxgraph.train.task import Batch, Metrics, Placed, Task


class Runner:
    """Compiled steps over a mesh, and what they work on.

    The same seed and batches give the same run, up to rounding, whatever the mesh.
    """

    def __init__(
        self,
        task: Task,
        config: Parallel,
        *,
        rows: int,
        calls: int = 1,
        precision: str = "default",
    ):
        """Compiles nothing yet.

        Args:
          rows: of a training batch.
          calls: steps in one call, whose batches are stacked.
          precision: `Train.matmul_precision`.

        Raises:
          UserError: batch, state and devices do not fit.
        """
        self.mesh = devices.make_mesh(config)
        self.backend, self.precision, self._calls = config.backend, precision, calls
        self._here = devices.batch_sharding(self.mesh, rows)
        self._stacked = devices.batch_sharding(self.mesh, rows, stacked=calls > 1)
        rules = task.placement if isinstance(task, Placed) else DEFAULT
        self.shapes = jax.eval_shape(task.init, jax.random.key(0))
        self.sharding = make_shardings(self.mesh, self.shapes, rules, fsdp=config.fsdp)
        if config.expert != 1 and EXPERT not in dict(rules).values():
            raise UserError(
                f"parallel.expert: got {config.expert}, but this system has no stacked experts; "
                "allowed: 1"
            )
        frozen = {"frozen": task.frozen()}
        where = make_shardings(self.mesh, frozen, rules, fsdp=config.fsdp)
        self.frozen = devices.put(frozen, where)["frozen"]
        common = devices.whole(self.mesh)
        self._init = jax.jit(task.init, out_shardings=self.sharding)
        step = self._traced(task.train_step)
        evaluate = Runner._traced(self, task.eval_step)
        if config.fsdp:
            read = {"params": self.shapes.params} | frozen
            computing = make_shardings(self.mesh, read, rules)
            step, evaluate = (collected(of, computing) for of in (step, evaluate))
        step = scan_steps(step, calls) if calls > 1 else step
        self._step = self._compile(step, where["frozen"])
        self._evaluate = jax.jit(
            evaluate,
            in_shardings=(self.sharding, where["frozen"], self._here),
            out_shardings=common,
        )

    def _traced(self, step: Any) -> Any:
        return traced(step, self.precision, self.mesh.abstract_mesh)

    def _compile(self, step: Any, frozen: Any) -> Any:
        return jax.jit(
            step,
            donate_argnums=0,
            in_shardings=(self.sharding, frozen, self._stacked),
            out_shardings=(self.sharding, devices.whole(self.mesh)),
        )

    def init(self, seed: int) -> TrainState:
        """The state before the first step, born where it will stay."""
        return self._init(jax.random.key(seed))

    def describe(self) -> Iterator[str]:
        """Devices and their settings, for the log."""
        device = self.mesh.devices.flat[0]
        shape = " x ".join(f"{name} {size}" for name, size in self.mesh.shape.items() if size > 1)
        processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
        kind = f"{device.device_kind} ({device.platform}){processes}"
        yield f"devices: {self.mesh.size} x {kind}{shape and f', {shape}'}, by {self.backend}"
        if device.platform == "gpu":
            yield f"memory: {gpu_memory()}"
        yield f"products of float32 matrices: {self._precision()}"
        held = bytes_by_device(self.shapes, self.sharding)
        yield f"state: {held / 1e6:,.1f} MB on each device"

    def _precision(self) -> str:
        of_jax = jax.config.jax_default_matmul_precision or "the device's default precision"
        return of_jax if self.precision == "default" else self.precision

    def template(self) -> Any:
        """What `Checkpoints.restore` takes."""
        return as_template(self.shapes, self.sharding)

    def place(self, batch: Batch) -> Batch:
        """A training batch, or several stacked, on the devices."""
        return devices.put(batch, self._stacked)

    def step(
        self, state: TrainState, frozen: Any, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        """The state after a placed batch; the one before is gone."""
        return self._step(state, frozen, batch)

    def evaluate(self, state: TrainState, frozen: Any, batch: Batch) -> Metrics:
        """`eval_step` on a batch from the host, of any number of rows."""
        batch = devices.pad_rows(batch, self.mesh.size)
        return self._evaluate(state, frozen, devices.put(batch, self._here))


class PmapRunner(Runner):
    """Training by `jax.pmap`: the whole state on each device, without a leading axis for them."""

    def _traced(self, step: Any) -> Any:
        return traced(step, self.precision)

    def _compile(self, step: Any, frozen: Any) -> Any:
        del frozen
        return jax.pmap(
            step,
            axis_name=across.AXIS,
            in_axes=(None, None, int(self._calls > 1)),
            out_axes=None,
            devices=list(self.mesh.devices.flat),
            donate_argnums=0,
        )

    def place(self, batch: Batch) -> Batch:
        axis, local = int(self._calls > 1), len(self.mesh.local_devices)

        def cut(x):
            # Processes hold consecutive devices, as `jax.devices` lists them.
            own = np.split(x, jax.process_count(), axis)[jax.process_index()]
            return own.reshape(*own.shape[:axis], local, -1, *own.shape[axis + 1 :])

        return jax.tree.map(cut, batch)

    def step(
        self, state: TrainState, frozen: Any, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        state, metrics = self._step(state, frozen, batch)
        if jax.process_count() > 1:
            # pmap gives each process an array of its own devices.
            state = jax.tree.map(self._joined, state, self.sharding)
        return state, metrics

    def _joined(self, leaf: Any, sharding: Any) -> Any:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = self._joined(jax.random.key_data(leaf), sharding)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        parts = [shard.data for shard in leaf.addressable_shards]
        return jax.make_array_from_single_device_arrays(leaf.shape, sharding, parts)


def traced(step: Any, precision: str, mesh: Any = None) -> Any:
    """A step whose matrix products have a `Train.matmul_precision`, and whose functions know the
    mesh that they run on (`jaxgraph.nn.across`)."""

    def run(*args: Any) -> Any:
        with contextlib.ExitStack() as settings:
            if precision != "default":
                settings.enter_context(jax.default_matmul_precision(precision))
            if mesh is not None:
                settings.enter_context(jax.sharding.use_abstract_mesh(mesh))
            return step(*args)

    return run


def collected(step: Any, where: Any) -> Any:
    """A step that first collects parameters and frozen weights from the devices that share them.

    Left to itself, XLA sums activations over the devices instead, several times the bytes.
    """

    def run(state: TrainState, frozen: Any, batch: Batch) -> Any:
        read = {"params": state.params, "frozen": frozen}
        read = jax.lax.with_sharding_constraint(read, where)
        return step(state.replace(params=read["params"]), read["frozen"], batch)

    return run


def gpu_memory() -> str:
    """What the user has told XLA about memory."""
    if os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "true").lower() in ("false", "0"):
        return "taken as needed (XLA_PYTHON_CLIENT_PREALLOCATE=false)"
    share = os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.75")
    return f"{share} of each GPU taken in advance (XLA_PYTHON_CLIENT_MEM_FRACTION)"


def make_runner(task: Task, config: Parallel, **options: Any) -> Runner:
    """The runner of the backend that a config names; options are those of `Runner`."""
    make = {"mesh": Runner, "pmap": PmapRunner}[config.backend]
    return make(task, config, **options)
