"""Several processes that train together: how they start, agree and end."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgraph.errors import UserError
from jaxgraph.train.config import Parallel
from jaxgraph.train.signals import StopSignal


def is_main() -> bool:
    """Whether this process writes and prints."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits for all processes."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def together(config: Parallel) -> Iterator[None]:
    """Connects the processes of a run for as long as it lasts; call it before any other JAX.

    Where one fails it ends at once, without the farewell for which the others would have to come;
    they notice within `config.timeout` seconds and end too.

    Raises:
      UserError: the others cannot be found.
    """
    if config.processes == 1:
        yield
        return
    _connect(config)
    try:
        yield
    except BaseException as error:
        if isinstance(error, UserError):
            print(f"error: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2 if isinstance(error, UserError) else 1)
    jax.distributed.shutdown()


def _connect(config: Parallel) -> None:
    count = config.processes or int(os.environ.get("JAX_NUM_PROCESSES", 0))
    own = config.process if config.process >= 0 else int(os.environ.get("JAX_PROCESS_ID", -1))
    try:
        jax.distributed.initialize(
            config.coordinator or None,
            count or None,
            own if own >= 0 else None,
            heartbeat_timeout_seconds=config.timeout,
            initialization_timeout=config.timeout,
            shutdown_timeout_seconds=config.timeout,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"parallel.processes: cannot join {count or 'the other'} processes: {error}\nallowed: "
            "parallel.coordinator HOST:PORT, parallel.processes and parallel.process, or "
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or a cluster that says"
        ) from error


class Agreement:
    """A signal to any process stops all of them, behind the same step.

    Each step asks the others and reads the answer to the question before, so that nobody waits.
    """

    def __init__(self, signals: StopSignal):
        self.received: str | None = None
        """Name of the signal, once all know of it."""
        self._signals = signals
        self._pending: Any = None
        if jax.process_count() > 1:
            devices = np.array(jax.devices())
            mesh = Mesh(devices, ("process",))
            self._where = NamedSharding(mesh, PartitionSpec("process"))
            self._any = jax.jit(
                lambda asked: asked.any(), out_shardings=NamedSharding(mesh, PartitionSpec())
            )

    def ask(self) -> None:
        """Called by all processes behind each call of a step; `received` changes here only, so that
        whoever stops has saved."""
        if jax.process_count() == 1:
            self.received = self._signals.received
            return
        before = self._pending
        own = np.full(jax.local_device_count(), bool(self._signals.received))
        self._pending = self._any(
            jax.make_array_from_process_local_data(self._where, own, (jax.device_count(),))
        )
        if before is not None and bool(before):
            self.received = self._signals.received or "a signal to another process"
