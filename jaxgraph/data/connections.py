"""Raw messages from the original's programs: its gRPC bridge, or its core's ZMQ socket."""

import threading
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from jaxgraph.data.bridge_messages import METHOD, read_message, write_config
from jaxgraph.data.packets import Packet, read_packet
from jaxgraph.errors import UserError

POLL_S = 0.1
LARGEST = 1 << 20
"""Bytes of a message: anything longer is not ours."""


@runtime_checkable
class Connection(Protocol):
    """One attempt to read; made anew after it ended."""

    read: Callable[[bytes, int], Packet]
    """Parses a message of numbers of so many bits; raises `BadPacket`."""

    def messages(self) -> Iterator[bytes]:
        """Messages as they arrive; ends, or raises ConnectionError, when the connection is lost."""

    def close(self) -> None:
        """Ends `messages` soon, from another thread; frees what it held."""


class BridgeConnection:
    """gRPC, with messages coded by `bridge_messages`."""

    read = staticmethod(read_message)

    def __init__(self, address: str, batch_size: int):
        import grpc

        self._error = grpc.RpcError
        options = [
            # Else a new channel waits as long as the last one would have waited.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", LARGEST),
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 5_000),
        ]
        self._channel = grpc.insecure_channel(address, options)
        self._call = self._channel.unary_stream(METHOD)(write_config(batch_size))

    def messages(self) -> Iterator[bytes]:
        try:
            yield from self._call
        except self._error as error:
            code, details = getattr(error, "code", None), getattr(error, "details", None)
            what = f"{code().name}: {details()}" if code and details else str(error)
            raise ConnectionError(what) from error

    def close(self) -> None:
        self._call.cancel()
        self._channel.close()


class SocketConnection:
    """A ZMQ PULL socket, which finds its sender again by itself."""

    read = staticmethod(read_packet)

    def __init__(self, address: str, backoff_ms: int):
        import zmq

        self._zmq, self._closed = zmq, threading.Event()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 256)
        self._socket.setsockopt(zmq.MAXMSGSIZE, LARGEST)
        self._socket.setsockopt(zmq.RECONNECT_IVL, backoff_ms)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 30_000)
        self._socket.connect(f"tcp://{address}")

    def messages(self) -> Iterator[bytes]:
        # Sockets belong to one thread: this one closes it.
        try:
            while not self._closed.is_set():
                if self._socket.poll(int(POLL_S * 1000)):
                    yield self._socket.recv()
        except self._zmq.ZMQError as error:
            raise ConnectionError(str(error)) from error
        finally:
            self._socket.close()
            self._context.term()

    def close(self) -> None:
        self._closed.set()


def connect(address: str, batch_size: int, backoff: float) -> Connection:
    """Begins to read from `grpc://HOST:PORT` or `zmq://HOST:PORT`, without waiting for an answer.

    Raises:
      UserError: the address is none of these, or the library that it needs is not installed.
    """
    kind, _, rest = address.partition("://")
    try:
        if kind == "grpc":
            return BridgeConnection(rest, batch_size)
        if kind == "zmq":
            return SocketConnection(rest, max(1, int(1000 * backoff)))
    except ImportError as error:
        raise UserError(f"{address} needs {error.name}: pip install 'jaxgraph[stream]'") from error
    raise UserError(f"{address!r}: allowed: grpc://HOST:PORT or zmq://HOST:PORT")
