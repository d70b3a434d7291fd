"""Packet v1 of the original: a number, its noisy bits, and hashes of both (spec/vae.md, 16.3).

The hashes have no key: they show damage, not forgery.
"""

import hashlib
import struct
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

MAGIC, VERSION = b"PXSV", 1
LABELS = range(6)
LIMIT = 10.0
"""Largest size of a noisy bit."""
TRAILER = 112


class BadPacket(Exception):
    """A packet that cannot be used; `reason` is a word to count it under."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True)
class Packet:
    """A number as sent."""

    label: int
    """0 easy, 1 prime, 2 hard; 4, 3, 5 for the same in the DP stream."""
    number: UInt8[np.ndarray, " bytes"]
    """Big-endian."""
    vector: Float32[np.ndarray, " bits"]
    """Bits with noise, the least significant first."""
    seq: int | None
    """Place in the sender's stream from 0; None where it was not sent along."""

    @property
    def bits(self) -> UInt8[np.ndarray, " bytes"]:
        """Bit j of byte i is binary digit ``8 i + j``, as in `numbers.NumberSplit`."""
        return self.number[::-1]


def packet_size(bits: int) -> int:
    """Bytes of a packet: 1172 for 256 bits."""
    return 4 + bits // 8 + 4 * bits + TRAILER


def write_packet(packet: Packet) -> bytes:
    """Packet v1, hashes included.

    Raises:
      ValueError: the packet has no `seq`.
    """
    if packet.seq is None:
        raise ValueError("a packet needs a seq to be written")
    label = struct.pack("<i", packet.label)
    number, vector = packet.number.tobytes(), packet.vector.astype("<f4").tobytes()
    seq = struct.pack("<Q", packet.seq)
    sizes = struct.pack("<II", len(number), len(packet.vector))
    hashes = (_hash(number), _hash(vector), _hash(label + number + vector + seq + sizes))
    head = MAGIC + bytes([VERSION, 0, 0, 0]) + seq
    return label + number + vector + head + b"".join(hashes)


def read_packet(data: bytes, bits: int) -> Packet:
    """Reads packet v1 of numbers of so many bits.

    Raises:
      BadPacket: with reason `length`, `magic`, `version`, `hash`, or one of `check_packet`'s.
    """
    if len(data) != packet_size(bits):
        raise BadPacket("length", f"{len(data)} bytes instead of {packet_size(bits)}")
    middle, end = 4 + bits // 8, len(data) - TRAILER
    label, number, vector, trailer = data[:4], data[4:middle], data[middle:end], data[end:]
    if trailer[:4] != MAGIC:
        raise BadPacket("magic", f"{trailer[:4]!r} instead of {MAGIC!r}")
    if trailer[4] != VERSION:
        raise BadPacket("version", f"{trailer[4]} instead of {VERSION}")
    seq = trailer[8:16]
    sizes = struct.pack("<II", len(number), bits)
    whole = _hash(label + number + vector + seq + sizes)
    if trailer[16:] != _hash(number) + _hash(vector) + whole:
        raise BadPacket("hash", "the content is not what was sent")
    packet = Packet(
        struct.unpack("<i", label)[0],
        np.frombuffer(number, np.uint8),
        np.frombuffer(vector, "<f4").astype(np.float32),
        struct.unpack("<Q", seq)[0],
    )
    check_packet(packet, bits)
    return packet


def check_packet(packet: Packet, bits: int) -> None:
    """Refuses contents that no sender means.

    Raises:
      BadPacket: with reason `size`, `label`, `value` (not finite, or beyond `LIMIT`) or `mismatch`
        (rounded, the vector is not the number; at the original's noise of 0.05 that is 10 standard
        deviations away).
    """
    if len(packet.number) != bits // 8 or len(packet.vector) != bits:
        sizes = f"{len(packet.number)} bytes and {len(packet.vector)} values"
        raise BadPacket("size", f"{sizes} for numbers of {bits} bits")
    if packet.label not in LABELS:
        raise BadPacket("label", f"{packet.label}; known: 0 to 5")
    if not (np.abs(packet.vector) <= LIMIT).all():
        raise BadPacket("value", f"not finite, or beyond {LIMIT:g}")
    digits = np.unpackbits(packet.bits, bitorder="little")
    if not np.array_equal(packet.vector > 0.5, digits):
        raise BadPacket("mismatch", "the vector is not that of the number")


def _hash(data: bytes) -> bytes:
    return hashlib.blake2s(data).digest()
