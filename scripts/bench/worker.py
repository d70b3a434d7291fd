"""The part that both processes of a pair share: pinning, memory, and answering commands."""

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from bench.rows import Row, read_row


def start() -> Row:
    """Reads the row from the command line and pins the process; call it before heavy imports.

    XLA counts the cores it may use when it starts, and the cores, not a wish, then limit it.
    """
    row = read_row(sys.argv[1])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: row.threads])
    return row


def serve(side: Any) -> None:
    """Calls methods of `side` by command, one JSON object a line each way, until stdin closes."""
    # Libraries may print: only this stream carries answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    idle = Idle()
    for line in sys.stdin:
        idle.stop()
        command = json.loads(line)
        do = command.pop("do")
        try:
            value = getattr(side, do)(**command)
            if isinstance(value, dict):
                value |= {"idle_cpu": idle.share}
            answer = {"value": value}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        if do == "warm_up":
            idle = Idle()  # what came before is not measured
        idle.start()
        print(json.dumps(answer), file=answers)


def timed(work: Any) -> float:
    """Milliseconds that `work()` takes."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def peak_mb() -> float:
    """Largest resident size of this process so far.

    Not `getrusage`, whose value a process inherits from the one that started it.
    """
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


class Idle:
    """How busy a process keeps the cores while it waits: threads that spin disturb the other."""

    def __init__(self):
        self.cpu = self.wall = 0.0
        self.start()

    def start(self) -> None:
        self._start = time.process_time(), time.perf_counter()

    def stop(self) -> None:
        self.cpu += time.process_time() - self._start[0]
        self.wall += time.perf_counter() - self._start[1]

    @property
    def share(self) -> float:
        """Cores in use, 0 when it sleeps."""
        return self.cpu / max(self.wall, 1e-9)
