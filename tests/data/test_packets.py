"""Packets and bridge messages are read and written as the original does, damage is noticed."""

import hashlib
import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxgraph.data.bridge_messages import read_message, write_config, write_message
from jaxgraph.data.packets import BadPacket, Packet, packet_size, read_packet, write_packet

GOLDEN = Path(__file__).parent.parent / "parity" / "vae" / "data_packets.npz"
BITS = 16
MIDDLE = 4 + BITS // 8
END = MIDDLE + 4 * BITS


def make(number=0x8F31, label=2, seq=7, noise=0.05, bits=BITS) -> Packet:
    raw = np.frombuffer(number.to_bytes(bits // 8), np.uint8)
    digits = np.unpackbits(raw[::-1], bitorder="little")
    random = np.random.default_rng(number % 1000)
    vector = (digits + noise * random.uniform(-1, 1, bits)).astype(np.float32)
    return Packet(label, raw, vector, seq)


def same(a: Packet, b: Packet) -> bool:
    return a.label == b.label and a.seq == b.seq and all(
        np.array_equal(x, y) for x, y in ((a.number, b.number), (a.vector, b.vector))
    )  # fmt: skip


def sealed(packet: Packet, **changes) -> bytes:
    """A packet with right hashes over contents that `write_packet` would not be given."""
    return write_packet(Packet(**(vars(packet) | changes)))


def test_golden_packets():
    case = dict(np.load(GOLDEN))
    bits = json.loads(str(case["config"]))["bits"]
    assert case["out/packet"].shape[1] == packet_size(bits) == 1172 and packet_size(128) == 644
    rows = zip(
        case["in/raw_bytes"], case["in/labels"], case["in/x"], case["out/bits"],
        case["out/packet"], strict=True,
    )  # fmt: skip
    first = read_packet(case["out/packet"][0].tobytes(), bits).seq
    for seq, (number, label, x, digits, data) in enumerate(rows, first):
        packet = Packet(int(label), number, x, seq)
        assert write_packet(packet) == data.tobytes()
        assert same(read_packet(data.tobytes(), bits), packet)
        np.testing.assert_array_equal(np.unpackbits(packet.bits, bitorder="little"), digits)


@given(st.integers(0, 2**BITS - 1), st.integers(0, 5), st.integers(0, 2**64 - 1))
def test_round_trips(number, label, seq):
    packet = make(number, label, seq)
    assert same(read_packet(write_packet(packet), BITS), packet)
    message = read_message(write_message(packet), BITS)
    assert same(message, Packet(packet.label, packet.number, packet.vector, None))
    assert int.from_bytes(packet.bits.tobytes(), "little") == number


@given(st.integers(0, packet_size(BITS) - 1), st.integers(1, 255))
@example(END, 1)
@example(END + 4, 3)
@example(END + 6, 1)
@example(END + 8, 1)
@example(0, 1)
def test_no_changed_byte_passes(place, change):
    """Three filler bytes and nothing else may differ."""
    data = bytearray(write_packet(make()))
    data[place] ^= change
    if END + 5 <= place < END + 8:
        assert same(read_packet(bytes(data), BITS), make())
        return
    reason = {END + 4: "version"} | {END + i: "magic" for i in range(4)}
    with pytest.raises(BadPacket) as error:
        read_packet(bytes(data), BITS)
    assert error.value.reason == reason.get(place, "hash")


def test_each_hash_is_checked():
    """A sender that got one of three hashes wrong."""
    data = write_packet(make())
    for i in range(3):
        place = END + 16 + 32 * i
        wrong = data[:place] + hashlib.blake2s(b"").digest() + data[place + 32 :]
        with pytest.raises(BadPacket, match="hash"):
            read_packet(wrong, BITS)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": 6}, "label"),
        ({"label": -1}, "label"),
        ({"vector": make(0x8F30).vector}, "mismatch"),
        ({"vector": np.where(np.arange(BITS) == 3, np.nan, make().vector)}, "value"),
        ({"vector": np.where(np.arange(BITS) == 0, math.inf, make().vector)}, "value"),
        ({"vector": np.where(np.arange(BITS) == 0, 10.1, make().vector)}, "value"),
    ],
)
def test_contents_that_no_sender_means(changes, reason):
    if "vector" in changes:
        changes = {"vector": changes["vector"].astype(np.float32)}
    with pytest.raises(BadPacket) as error:
        read_packet(sealed(make(), **changes), BITS)
    assert error.value.reason == reason
    if changes.get("label", 0) >= 0:
        with pytest.raises(BadPacket) as error:
            read_message(write_message(Packet(**(vars(make()) | changes))), BITS)
        assert error.value.reason == reason


def test_packets_of_another_width():
    data = write_packet(make())
    for other in (data[:-1], data + b"x", b"", write_packet(make(bits=32))):
        with pytest.raises(BadPacket, match="length"):
            read_packet(other, BITS)
    with pytest.raises(BadPacket, match="size"):
        read_message(write_message(make(bits=32)), BITS)
    short = Packet(**(vars(make()) | {"vector": make().vector[:8]}))
    with pytest.raises(BadPacket, match="size: 2 bytes and 8 values"):
        read_message(write_message(short), BITS)
    with pytest.raises(BadPacket, match="size: 0 bytes and 0 values"):
        read_message(b"", BITS)


def proto():
    """The messages as Google's own library codes them."""
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="p.proto", package="p", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in {
        "StreamConfig": (("batch_size", 5, 1), ("mixed_mode", 8, 1), ("mixing_ratio", 2, 1)),
        "DataBatch": (
            ("raw_bytes", 12, 1), ("input_vector", 2, 3), ("label", 5, 1), ("is_synthetic", 8, 1),
        ),
    }.items():  # fmt: skip
        message = file.message_type.add(name=name)
        for number, (field, kind, label) in enumerate(fields, 1):
            message.field.append(kinds(name=field, number=number, type=kind, label=label))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"p.{name}"))
        for name in ("StreamConfig", "DataBatch")
    }


def test_messages_are_those_of_the_protobuf_library():
    classes = proto()
    for size in (1, 64, 100_000):
        config = classes["StreamConfig"].FromString(write_config(size))
        assert (config.batch_size, config.mixed_mode, config.mixing_ratio) == (size, True, 0.5)
    for bits, label in ((16, 0), (256, 5)):
        packet = make(2 ** (bits - 1) + 5, label, bits=bits)
        theirs = classes["DataBatch"](
            raw_bytes=packet.number.tobytes(), input_vector=packet.vector, label=label
        )
        assert write_message(packet) == theirs.SerializeToString(deterministic=True)
        theirs.is_synthetic = True
        read = read_message(theirs.SerializeToString(), bits)
        assert same(read, Packet(label, packet.number, packet.vector, None))


def test_messages_of_other_forms():
    """Fields in any order, floats one by one, unknown fields: all legal protobuf."""
    packet = make(label=4)
    floats = b"".join(b"\x15" + struct.pack("<f", x) for x in packet.vector)
    unknown = b"\x78\x96\x01" + b"\x82\x01\x02hi" + b"\x89\x01" + b"\xff" * 8
    number = b"\x0a\x02" + packet.number.tobytes()
    read = read_message(b"\x18\x04" + unknown + floats + number, BITS)
    assert read.label == 4 and np.array_equal(read.vector, packet.vector)


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x18" + b"\xff" * 10 + b"\x01",
        b"\x12\x03abc",
        b"\x0b",
        b"\x08\x01",
        b"\x1a\x01\x00",
        b"\x15\x00",
    ],
)
def test_broken_messages(data):
    with pytest.raises(BadPacket) as error:
        read_message(data, BITS)
    assert error.value.reason == "format"


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_bad(data):
    for read in (read_message, read_packet):
        with pytest.raises(BadPacket):
            read(data, BITS)
