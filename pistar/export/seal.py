"""The bytes of an ONNX file: sealed with a checksum, and looked through before any library parses them.

The checksum is the file's last entry of metadata, so that it can be appended and taken off without parsing anything; it finds
damage, not malice: whoever makes a file can seal it. `inspect` therefore refuses what could reach beyond the file or run for
ever, whoever sealed it: weights in other files, control flow, functions, operators outside ONNX's own domain.

Reading protocol buffers takes the few lines below; the `onnx` package is only needed to write.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator

from pistar.errors import ArtefactError

KEY = "pistar.sha256"
_HEAD = b"\x72\x51\x0a\x0d" + KEY.encode() + b"\x12\x40"  # ModelProto.metadata_props { key, value: 64 characters }
LENGTH = len(_HEAD) + 64
LARGEST = 2**31 - 1  # bytes of a protocol buffer
DEEPEST = 16

# Field numbers of onnx.proto: message -> field -> message inside it, or why the field is refused.
_EXTERNAL = "keeps weights in other files"
_FLOW = "has control flow (If, Loop, Scan)"
_SPARSE = "has sparse tensors"
_NESTED: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor"},
    "tensor": {},
    "opset": {},
}
_REFUSED: dict[str, dict[int, str]] = {
    "model": {20: "has training information", 25: "defines functions of its own"},
    "graph": {15: _SPARSE},
    "attribute": {6: _FLOW, 11: _FLOW, 22: _SPARSE, 23: _SPARSE},
    "tensor": {13: _EXTERNAL},
}
_DOMAIN = {"node": 7, "opset": 1}


def seal(data: bytes) -> bytes:
    """``data`` with its checksum as one more entry of metadata."""
    return data + _HEAD + hashlib.sha256(data).hexdigest().encode()


def unseal(data: bytes) -> str:
    """The checksum of a sealed file. Raises ArtefactError where the file is not sealed, or not as it was."""
    body, head, digest = data[:-LENGTH], data[-LENGTH:-64], data[-64:]
    if len(data) <= LENGTH or head != _HEAD:
        raise ArtefactError("it is not a whole file of `pistar export`: truncated, or made by something else")
    if not hmac.compare_digest(hashlib.sha256(body).hexdigest().encode(), digest):
        raise ArtefactError("its content does not match its checksum: it was altered or damaged. Use another copy")
    return digest.decode()


def inspect(data: bytes) -> None:
    """Raise ArtefactError where a model reaches beyond its file, or is more than a graph of ONNX's own operators."""
    try:
        _walk(memoryview(data), "model", 0)
    except (IndexError, ValueError) as error:
        raise ArtefactError(f"it is no protocol buffer of an ONNX model ({error})") from error


def _walk(data: memoryview, message: str, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError("nested too deep")
    for field, value in fields(data):
        refused = _REFUSED.get(message, {}).get(field)
        if message == "tensor" and field == 14 and value != 0:
            refused = _EXTERNAL
        if refused is not None:
            raise ArtefactError(f"it {refused}, which a file of `pistar export` never does; nothing of it was run")
        if isinstance(value, int):
            continue
        if _DOMAIN.get(message) == field and bytes(value) not in (b"", b"ai.onnx"):
            raise ArtefactError(f"it uses operators of the domain {bytes(value)[:40]!r}; only ONNX's own are allowed")
        if field in _NESTED[message]:
            _walk(value, _NESTED[message][field], depth + 1)


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of every field of a message: integers, or bytes that hold numbers, a string or a message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind not in _LENGTHS:
            raise ValueError(f"unknown wire type {kind}")
        length, at = _LENGTHS[kind](data, at)
        if at + length > len(data):
            raise ValueError("a field is longer than its message")
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number is too long")


_LENGTHS: dict[int, Callable[[memoryview, int], tuple[int, int]]] = {
    1: lambda data, at: (8, at),
    2: _varint,
    5: lambda data, at: (4, at),
}
