"""A live source gives full batches of good packets, in order, and comes back when it is lost."""

import contextlib
import dataclasses
import itertools
import socket
import sys
import threading
import time
from concurrent import futures

import numpy as np
import pytest

from jaxgraph.data.bridge_messages import METHOD, write_message
from jaxgraph.data.config import StreamData
from jaxgraph.data.packets import Packet, write_packet
from jaxgraph.data.stream import PacketStream
from jaxgraph.errors import UserError

BITS = 16
FAST = {"bits": BITS, "batch_size": 4, "backoff": 0.05, "timeout": 20.0}


def packet(i: int, label: int | None = None) -> Packet:
    """Number i, label i mod 3, place i."""
    raw = np.frombuffer(i.to_bytes(2), np.uint8)
    vector = np.unpackbits(raw[::-1], bitorder="little").astype(np.float32)
    return Packet(i % 3 if label is None else label, raw, vector, i)


def numbers(batch) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in batch["bits"]]


def take(stream: PacketStream, count: int) -> list[int]:
    """Numbers of so many batches, whose shapes and labels are checked."""
    found = []
    for batch in itertools.islice(iter(stream), count):
        assert batch["bits"].shape == (4, 2) and batch["bits"].dtype == np.uint8
        assert batch["mask"].tolist() == [1.0] * 4 and batch["label"].dtype == np.int32
        found += numbers(batch)
        assert batch["label"].tolist() == [n % 3 for n in found[-4:]]
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def bridge(send, port=0):
    """A gRPC server that answers with the messages of `send(call number)`; yields its address."""
    grpc = pytest.importorskip("grpc", reason="needs: pip install 'jaxgraph[stream]'")
    service, method = METHOD[1:].split("/")
    calls = itertools.count()
    handler = grpc.unary_stream_rpc_method_handler(lambda request, context: send(next(calls)))
    server = grpc.server(futures.ThreadPoolExecutor(2))
    handlers = grpc.method_handlers_generic_handler(service, {method: handler})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(0).wait(10)


@contextlib.contextmanager
def pusher(port=0):
    """A bound ZMQ PUSH socket and its address."""
    zmq = pytest.importorskip("zmq", reason="needs: pip install 'jaxgraph[stream]'")
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.setsockopt(zmq.LINGER, 0)
        push.setsockopt(zmq.SNDTIMEO, 10_000)
        push.bind(f"tcp://127.0.0.1:{port or '*'}")
        yield push, push.getsockopt_string(zmq.LAST_ENDPOINT).replace("tcp", "zmq")


def test_bridge():
    good = [write_message(packet(i)) for i in range(12)]
    bad = [b"\x0a", good[0][:-3], write_message(packet(1, label=9))]
    other = write_message(packet(3, label=4))
    with bridge(lambda call: iter([*bad, *good[:5], other, *good[5:]])) as address:
        with PacketStream(StreamData(address, **FAST)) as stream:
            assert take(stream, 3) == list(range(12))
    counts = {k: v for k, v in stream.counts.items() if k.startswith(("bad", "other"))}
    assert counts == {"bad/format": 2, "bad/label": 1, "other_labels": 1}
    assert "bad/format 2" in stream.describe() and address in stream.describe()


def test_bridge_is_asked_for_a_stream():
    """What arrives at the server is a StreamConfig of the batch's size."""
    grpc = pytest.importorskip("grpc")
    requests = []

    def send(request, context):
        requests.append(request)
        yield from (write_message(packet(i)) for i in range(4))

    handler = grpc.unary_stream_rpc_method_handler(send)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    service = "primebridge.DataProvider"
    handlers = grpc.method_handlers_generic_handler(service, {"StreamData": handler})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with PacketStream(StreamData(f"grpc://127.0.0.1:{port}", **FAST)) as stream:
        take(stream, 1)
    server.stop(0).wait(10)
    assert requests[0][:2] == b"\x08\x04"


def test_a_bridge_that_ends_and_fails_is_asked_again():
    def send(call):
        """Six packets a call; the first two calls end, the third breaks."""
        for i in range(6 * call, 6 * call + 6):
            yield write_message(packet(i))
        if call == 2:
            raise RuntimeError("gone")

    with bridge(send) as address, PacketStream(StreamData(address, **FAST)) as stream:
        assert take(stream, 6) == list(range(24))
        assert stream.counts["connections"] >= 4


def test_a_bridge_that_comes_late_and_back():
    port = free_port()
    messages = lambda call: (write_message(packet(i)) for i in range(4))  # noqa: E731
    with PacketStream(StreamData(f"grpc://127.0.0.1:{port}", **FAST)) as stream:
        batches = iter(stream)
        with contextlib.ExitStack() as stack:
            timer = threading.Timer(0.5, lambda: stack.enter_context(bridge(messages, port)))
            timer.start()
            assert numbers(next(batches)) == [0, 1, 2, 3]
            timer.join()
        with bridge(messages, port):
            assert numbers(next(batches)) == [0, 1, 2, 3]
        batches.close()
    assert stream.counts["connections"] >= 3


def test_pauses_grow_and_start_small_again(monkeypatch):
    pytest.importorskip("grpc")
    config = StreamData(f"grpc://127.0.0.1:{free_port()}", **FAST)
    stream = PacketStream(config)
    pauses = []

    def wait(pause):
        """Good packets arrive between the fourth and the fifth pause."""
        pauses.append(pause)
        if len(pauses) == 4:
            monkeypatch.setattr(
                "jaxgraph.data.stream.connect", lambda *_: Fake([write_packet(packet(0))])
            )
        if len(pauses) == 5:
            monkeypatch.setattr("jaxgraph.data.stream.connect", lambda *_: Fake([b"bad"]))
        if len(pauses) == 7:
            stream._stop.set()

    monkeypatch.setattr("jaxgraph.data.stream.connect", lambda *_: Fake([]))
    monkeypatch.setattr(stream._stop, "wait", wait)
    monkeypatch.setattr("jaxgraph.data.stream.LONGEST_PAUSE_S", 0.2)
    stream._read()
    assert pauses == [0.05, 0.1, 0.2, 0.2, 0.05, 0.1, 0.2]


class Fake:
    """A connection that gives some packets v1 and ends."""

    def __init__(self, messages):
        from jaxgraph.data.packets import read_packet

        self.messages, self.read = lambda: iter(messages), read_packet

    def close(self):
        """Nothing to close."""


def test_socket():
    with pusher() as (push, address), PacketStream(StreamData(address, **FAST)) as stream:
        damaged = bytearray(write_packet(packet(1)))
        damaged[5] ^= 1
        for data in (bytes(damaged), b"short"):
            push.send(data)
        for i in (0, 1, 2, 3, 4, 5, 9, 10):
            push.send(write_packet(packet(i)))
        assert take(stream, 2) == [0, 1, 2, 3, 4, 5, 9, 10]
        assert (stream.counts["bad/hash"], stream.counts["bad/length"]) == (1, 1)
        assert stream.counts["skipped"] == 3


def test_a_socket_whose_sender_starts_again():
    port = free_port()
    with PacketStream(StreamData(f"zmq://127.0.0.1:{port}", **FAST)) as stream:
        batches = iter(stream)
        for _ in range(2):
            with pusher(port) as (push, _):
                for i in range(4):
                    push.send(write_packet(packet(i)))
                assert numbers(next(batches)) == [0, 1, 2, 3]
        batches.close()
    assert stream.counts["skipped"] == 0


def test_labels():
    rows = [(5, 3), (6, 0), (7, 4), (8, 5), (9, 1), (10, 3), (11, 2)]
    for labels, kept in {"dp": [5, 7, 8, 10], "both": [5, 6, 7, 8], "raw": None}.items():
        with pusher() as (push, address):
            config = StreamData(address, labels=labels, **(FAST | {"timeout": 0.5}))
            with PacketStream(config) as stream:
                for number, label in rows:
                    push.send(write_packet(packet(number, label)))
                if kept:
                    assert numbers(stream[0]) == kept
                else:
                    with pytest.raises(UserError, match="kept 3, other_labels 4"):
                        stream[0]


def test_a_full_queue_holds_the_sender_back():
    sent = []

    def send(call):
        for i in range(60_000):
            sent.append(i)
            yield write_message(packet(i))

    with bridge(send) as address:
        with PacketStream(StreamData(address, queue=8, **FAST)) as stream:
            first = stream[0]
            time.sleep(1)
            # The queue, the packet in hand, and those taken for the batch.
            assert stream.counts["kept"] == 8 + 4
            held = len(sent)
            assert held < 30_000
            rest = take(stream, 2000)
    assert numbers(first) == [0, 1, 2, 3] and rest == list(range(8000))
    assert len(sent) > held


def test_silence_is_an_error_that_tells_what_came():
    pytest.importorskip("grpc")
    quick = FAST | {"timeout": 0.6}
    dead = PacketStream(StreamData(f"grpc://127.0.0.1:{free_port()}", **quick))
    with dead, pytest.raises(UserError, match="no packet to keep in 0.6 s.*UNAVAILABLE"):
        dead[0]
    with bridge(lambda call: iter([write_message(packet(1, label=9))] * 9)) as address:
        with PacketStream(StreamData(address, **quick)) as stream:
            with pytest.raises(
                UserError, match=r"bad/label \d+.*bad packet .label: 9; known: 0 to 5"
            ):
                stream[0]


def test_a_stream_is_no_sequence():
    with pusher() as (push, address), PacketStream(StreamData(address, **FAST)) as stream:
        for i in range(8):
            push.send(write_packet(packet(i)))
        assert numbers(stream[0]) == numbers(stream[0]) == [0, 1, 2, 3]
        assert stream[17:] is stream and len(stream) == sys.maxsize
        with pytest.raises(UserError, match="no batch 3"):
            stream[3]
        assert take(stream, 2) == list(range(8))


@pytest.mark.parametrize("kind", ["bridge", "socket"])
def test_closing_ends_the_thread(kind):
    """Also where it waits for a sender that says nothing more."""
    end = threading.Event()

    def send(call):
        yield from (write_message(packet(i)) for i in range(4))
        end.wait(10)

    with bridge(send) if kind == "bridge" else pusher() as made:
        address = made if kind == "bridge" else made[1]
        stream = PacketStream(StreamData(address, queue=2, **FAST))
        stream.start()
        if kind == "socket":
            for i in range(4):
                made[0].send(write_packet(packet(i)))
        assert numbers(stream[0]) == [0, 1, 2, 3]
        begun = time.monotonic()
        stream.close()
        assert time.monotonic() - begun < 3 and not stream._thread.is_alive()
        stream.close()
        # The batch that was looked at is still there, and nothing behind it.
        assert numbers(next(iter(stream[1:]))) == [0, 1, 2, 3]
        with pytest.raises(UserError, match="is closed"):
            next(iter(stream[1:]))
        end.set()


@pytest.mark.parametrize(("kind", "library"), [("grpc", "grpc"), ("zmq", "zmq")])
def test_a_missing_library_is_named(monkeypatch, kind, library):
    monkeypatch.setitem(sys.modules, library, None)
    with PacketStream(StreamData(f"{kind}://127.0.0.1:1", **FAST)) as stream:
        with pytest.raises(UserError, match=r"needs .*: pip install 'jaxgraph\[stream\]'"):
            stream[0]


def test_options():
    good = StreamData()
    assert not list(good.problems())
    for address in ("127.0.0.1:5", "http://a:1", "zmq://a", "grpc://:5", "grpc://a:b"):
        (problem,) = dataclasses.replace(good, address=address).problems()
        assert problem[0] == "address" and "allowed: grpc://HOST:PORT" in problem[1]
    (problem,) = dataclasses.replace(good, bits=20).problems()
    assert problem[0] == "bits"
