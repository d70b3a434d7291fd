"""A process that answers commands, as the benchmark starts one for each side of a row."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.rows import Row, write_row

ROOT = Path(__file__).resolve().parents[2]


class RowError(Exception):
    """Why a row has no numbers."""


class Worker:
    """A process that answers commands (`bench.worker.serve`)."""

    def __init__(self, module: str, row: Row, folder: str):
        self.module = module
        self._log = open(Path(folder, f"{module}.log"), "w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, write_row(row)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=environment(row.threads),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def ask(self, do: str, **arguments: Any) -> Any:
        self.send(do, **arguments)
        return self.receive()

    def send(self, do: str, **arguments: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # `receive` says why it died
            self._process.stdin.write(json.dumps({"do": do} | arguments) + "\n")
            self._process.stdin.flush()

    def receive(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            last = self._log.read().strip().splitlines()[-1:]
            raise RowError(f"{self.module} ended with code {code}: {' '.join(last)}")
        answer = json.loads(line)
        if "error" in answer:
            raise RowError(f"{self.module}: {answer['error']}")
        return answer["value"]


def environment(threads: int) -> dict[str, str]:
    """Both sides: as many threads, none of which spins while the other side runs."""
    paths = [str(ROOT / "scripts"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # a GPU's memory is shared, and measured
    }
    env.pop("JAX_COMPILATION_CACHE_DIR", None)  # compile times are of compilations
    return env
