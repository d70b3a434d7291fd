"""The two protobuf messages of the original's gRPC bridge, without generated code.

    StreamConfig { int32 batch_size = 1; bool mixed_mode = 2; float mixing_ratio = 3; }
    DataBatch    { bytes raw_bytes = 1; repeated float input_vector = 2; int32 label = 3;
                   bool is_synthetic = 4; }

One DataBatch is one packet, without its sequence number and its hashes (spec/vae.md, 16.4).
"""

import struct
from collections.abc import Iterator

import numpy as np

from jaxgraph.data.packets import BadPacket, Packet, check_packet

METHOD = "/primebridge.DataProvider/StreamData"
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
WIDTHS = {FIXED64: 8, FIXED32: 4}


def write_config(batch_size: int) -> bytes:
    """A StreamConfig; the original's server reads none of it."""
    ratio = struct.pack("<f", 0.5)
    return b"\x08" + _varint(batch_size) + b"\x10\x01" + b"\x1d" + ratio


def read_message(data: bytes, bits: int) -> Packet:
    """A DataBatch.

    Raises:
      BadPacket: with reason `format`, or one of `packets.check_packet`'s.
    """
    number, label, vector = b"", 0, []
    for field, kind, value in _fields(data):
        if (field, kind) == (1, BYTES):
            number = value
        elif field == 2 and kind in (BYTES, FIXED32):
            if len(value) % 4:
                raise BadPacket("format", f"{len(value)} bytes of floats")
            vector.append(value)
        elif (field, kind) == (3, VARINT):
            label = value
        elif field in (1, 2, 3):
            raise BadPacket("format", f"field {field} of wire type {kind}")
    packet = Packet(
        label,
        np.frombuffer(number, np.uint8),
        np.frombuffer(b"".join(vector), "<f4").astype(np.float32),
        None,
    )
    check_packet(packet, bits)
    return packet


def write_message(packet: Packet) -> bytes:
    """A DataBatch, as the bridge sends it: for tests, and for servers of one's own."""
    number, vector = packet.number.tobytes(), packet.vector.astype("<f4").tobytes()
    data = b"\x0a" + _varint(len(number)) + number + b"\x12" + _varint(len(vector)) + vector
    # Zero is what proto3 leaves out.
    return data + (b"\x18" + _varint(packet.label) if packet.label else b"")


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """Number, wire type and value of each field."""
    place = 0
    while place < len(data):
        tag, place = _read_varint(data, place)
        field, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, place = _read_varint(data, place)
            yield field, kind, value
            continue
        if kind == BYTES:
            size, place = _read_varint(data, place)
        elif kind in WIDTHS:
            size = WIDTHS[kind]
        else:
            raise BadPacket("format", f"wire type {kind}")
        if place + size > len(data):
            raise BadPacket("format", "cut short")
        yield field, kind, data[place : place + size]
        place += size


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        if place + i >= len(data):
            raise BadPacket("format", "cut short")
        byte = data[place + i]
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value, place + i + 1
    raise BadPacket("format", "a number of more than 64 bits")


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
