"""Endless training batches from a live source of packets.

A stream has no held-out split, no epochs and no order to come back to: which numbers a run sees is
decided by the sender, so runs cannot be repeated and resuming goes on with whatever comes next.
Evaluate on a pool (`jaxgraph.data.numbers`). Batches hold the numbers' bits; the sender's noise is
checked and dropped, since each use draws noise of its own.
"""

import queue
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import numpy as np

from jaxgraph.data.config import StreamData
from jaxgraph.data.connections import POLL_S, Connection, connect
from jaxgraph.data.packets import BadPacket, Packet
from jaxgraph.data.rows import Row
from jaxgraph.errors import UserError

KEPT = {"raw": (0, 1, 2), "dp": (3, 4, 5), "both": (0, 1, 2, 3, 4, 5)}
LONGEST_PAUSE_S = 30.0


class PacketStream:
    """Batches of `bits` uint8 ``[b, D/8]``, `label` int32 ``[b]``, `mask` float32 ``[b]`` (all 1).

    A thread reads packets into a bounded queue and waits while it is full, which holds the sender
    back. A lost connection is made again after a pause that doubles up to `LONGEST_PAUSE_S` and
    starts small again with the next good packet. Use it as a context manager, or call `close`.

    `counts` holds how many packets were `received`, `kept`, of `other_labels`, `bad/REASON`
    (`packets.check_packet`, `read_packet`, `bridge_messages.read_message`) and `skipped` (missing
    sequence numbers: other readers' packets, or losses), and how many `connections` were made.
    """

    def __init__(self, config: StreamData):
        self.counts: Counter[str] = Counter()
        self._config = config
        self._queue: queue.Queue[Packet] = queue.Queue(config.queue)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._failure: BaseException | None = None
        self._trouble = ""
        self._first: Row | None = None
        self._seq: int | None = None

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, i: slice | int) -> "PacketStream | Row":
        """A slice is the stream itself, from now on; 0 is the next batch, which is not used up."""
        if isinstance(i, slice):
            return self
        if i != 0:
            raise UserError(f"a stream has no batch {i}: it only goes on")
        if self._first is None:
            self._first = self._take()
        return self._first

    def __iter__(self) -> Iterator[Row]:
        try:
            while True:
                batch, self._first = self._first, None
                yield self._take() if batch is None else batch
        finally:
            self.close()

    def __enter__(self) -> "PacketStream":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def start(self) -> None:
        """Begins to read, if it has not begun; taking a batch does so too."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="packets", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends the thread; packets that still wait are lost."""
        self._stop.set()
        if self._connection is not None:
            self._connection.close()
        if self._thread is not None:
            self._thread.join(10)

    def describe(self) -> str:
        """The source and the counts so far."""
        counts = ", ".join(f"{name} {count}" for name, count in sorted(dict(self.counts).items()))
        return f"{self._config.address}, endless, without held-out numbers: {counts or 'nothing'}"

    def _take(self) -> Row:
        """The next batch.

        Raises:
          UserError: for `timeout` seconds there was no packet to keep, or a library is missing.
        """
        if self._stop.is_set():
            raise UserError(f"the stream {self._config.address} is closed")
        self.start()
        packets = [self._next() for _ in range(self._config.batch_size)]
        return {
            "bits": np.stack([packet.bits for packet in packets]),
            "label": np.array([packet.label for packet in packets], np.int32),
            "mask": np.ones(len(packets), np.float32),
        }

    def _next(self) -> Packet:
        waited = 0.0
        while waited < self._config.timeout:
            try:
                return self._queue.get(timeout=POLL_S)
            except queue.Empty:
                waited += POLL_S
            if self._failure is not None:
                raise self._failure
        last = f"; last: {self._trouble}" if self._trouble else ""
        raise UserError(
            f"no packet to keep in {self._config.timeout:g} s from {self.describe()}{last}; "
            "is the sender running, and are stream.bits and stream.labels its own?"
        )

    def _read(self) -> None:
        pause = self._config.backoff
        while not self._stop.is_set():
            kept = self.counts["kept"]
            try:
                self._connection = connect(
                    self._config.address, self._config.batch_size, self._config.backoff
                )
                self.counts["connections"] += 1
                if self._stop.is_set():
                    self._connection.close()
                for message in self._connection.messages():
                    self._receive(message)
                    if self._stop.is_set():
                        break
            except ConnectionError as error:
                self._trouble = str(error)
            except Exception as error:  # reported where batches are taken
                self._failure = error
                return
            finally:
                if self._connection is not None:
                    self._connection.close()
            pause = self._config.backoff if self.counts["kept"] > kept else pause
            self._stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _receive(self, message: bytes) -> None:
        self.counts["received"] += 1
        assert self._connection is not None
        try:
            packet = self._connection.read(message, self._config.bits)
        except BadPacket as error:
            self.counts[f"bad/{error.reason}"] += 1
            self._trouble = f"bad packet ({error})"
            return
        if packet.seq is not None:
            if self._seq is not None and packet.seq > self._seq + 1:
                self.counts["skipped"] += packet.seq - self._seq - 1
            self._seq = packet.seq
        if packet.label not in KEPT[self._config.labels]:
            self.counts["other_labels"] += 1
            return
        while not self._stop.is_set():
            try:
                self._queue.put(packet, timeout=POLL_S)
                self.counts["kept"] += 1
                return
            except queue.Full:
                continue
