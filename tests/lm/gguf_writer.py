"""Writes small GGUF files: just enough of the format for tests."""

import struct

import numpy as np

TYPES = {str: 8, bool: 7, int: 4, float: 6, list: 9}
FORMS = {int: "<I", float: "<f", bool: "<?"}


def string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(item):
    if isinstance(item, str):
        return string(item)
    if isinstance(item, list):
        head = struct.pack("<IQ", TYPES[type(item[0])], len(item))
        return head + b"".join(map(value, item))
    return struct.pack(FORMS[type(item)], item)


def permuted(weight, heads):
    """Rows of each head from split halves to neighbouring pairs, as llama.cpp stores them."""
    rows = []
    for head in np.split(weight, heads):
        half = len(head) // 2
        for j in range(half):
            rows += [head[j], head[half + j]]
    return np.stack(rows)


def f32(weight):
    return 0, weight.astype("<f4").tobytes(), weight


def f16(weight):
    return 1, weight.astype("<f2").tobytes(), weight.astype("<f2")


def q8_0(weight):
    """Blocks of 32: a scale and 32 signed bytes."""
    stored, out = [], []
    for block in weight.reshape(-1, 32):
        scale = np.float16(np.abs(block).max() / 127)
        q = np.round(block / np.float32(scale)).clip(-127, 127).astype("i1")
        stored.append(scale.tobytes() + q.tobytes())
        out.append(np.float32(scale) * q)
    return 8, b"".join(stored), np.concatenate(out).reshape(weight.shape)


def q4_1(weight):
    """Blocks of 32: a scale, a minimum, and 16 bytes; weight i shares one with weight i + 16."""
    stored, out = [], []
    for block in weight.reshape(-1, 32):
        low = np.float16(block.min())
        scale = np.float16((block.max() - block.min()) / 15)
        q = np.round((block - np.float32(low)) / np.float32(scale)).clip(0, 15).astype("u1")
        stored.append(scale.tobytes() + low.tobytes() + bytes(q[:16] + 16 * q[16:]))
        out.append(np.float32(scale) * q + np.float32(low))
    return 3, b"".join(stored), np.concatenate(out).reshape(weight.shape)


def write(path, values, tensors, encode):
    """Writes a file and gives the tensors that a reader should find.

    Args:
      tensors: by GGUF name.
      encode: by GGUF name, how a tensor is stored; float32 for those not named.
    """
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    for key, item in values.items():
        head += string(key) + struct.pack("<I", TYPES[type(item)]) + value(item)
    body, found = b"", {}
    for name, weight in tensors.items():
        kind, stored, found[name] = encode.get(name, f32)(weight)
        head += string(name) + struct.pack("<I", weight.ndim)
        head += struct.pack(f"<{weight.ndim}Q", *weight.shape[::-1])
        head += struct.pack("<IQ", kind, len(body))
        body += stored + b"\0" * (-len(stored) % 32)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + body)
    return found
