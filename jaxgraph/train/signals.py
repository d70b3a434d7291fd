"""SIGTERM and SIGINT: the first asks the loop to save and stop, the second ends at once."""

import os
import signal
import sys

HANDLED = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """While entered, `received` tells whether somebody asked to stop."""

    def __init__(self):
        self.received: str | None = None
        self._before = {}

    def __enter__(self):
        try:
            self._before = {number: signal.signal(number, self._handle) for number in HANDLED}
        except ValueError:
            # Only the main thread may set handlers; elsewhere stopping is the caller's affair.
            self._before = {}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number, _frame):
        if self.received:
            os._exit(128 + number)
        self.received = signal.Signals(number).name
        print(
            f"\n{self.received}: saving and stopping; once more to end at once",
            file=sys.stderr,
            flush=True,
        )
