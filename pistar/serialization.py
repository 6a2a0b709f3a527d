"""Nested state as one safetensors file: tensors as tensors, everything else as JSON in the header. Never pickle.

A state is a dict with str keys whose values are tensors, NumPy arrays, JSON scalars, lists, or further dicts. The header
carries a SHA-256 over names, types, shapes, bytes and JSON, since safetensors itself does not notice an altered byte.
Equal states give equal bytes. Files appear whole or not at all: written beside their place, flushed to the disk, then
renamed, then the directory is flushed too. What is read lies in memory as torch itself lays it out, so that computing with
it gives the bits that computing with what was written gave.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pistar.errors import ArtefactError, StorageError

FORMAT_VERSION = 1
_TENSOR, _ARRAY = "$tensor", "$array"


def write(path: Path, state: dict[str, Any], kind: str, header: dict[str, Any] | None = None) -> None:
    """Write ``state`` to ``path`` atomically, with ``header`` as further JSON that `read_header` returns alone.

    Raises StorageError where the disk refuses (full, read-only); whatever stood at ``path`` before still stands then.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _encode(state, "", tensors)
    body = json.dumps(skeleton, separators=(",", ":"), sort_keys=True)
    head = json.dumps(header or {}, separators=(",", ":"), sort_keys=True)
    metadata = {"format": kind, "version": str(FORMAT_VERSION), "header": head, "state": body}
    metadata["sha256"] = _digest(tensors, metadata)
    write_bytes(path, _in_order(save(tensors, metadata)))


def write_bytes(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` atomically and durably; raises StorageError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StorageError(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # what went wrong before is what has to be told
            temporary.unlink(missing_ok=True)


def read(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(state, header) of a file written by `write`; raises ArtefactError where anything about it is not as written."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = _metadata(file.metadata(), path, kind)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtefactError(
            f"{path} is not a whole {kind} file ({error}); it may be truncated. Use another copy"
        ) from error
    stated = metadata.pop("sha256", None)
    if stated != _digest(tensors, metadata):
        raise ArtefactError(
            f"{path}: its content does not match its checksum: it was altered or damaged. Use another copy"
        )
    placed = {key: _placed(tensor) for key, tensor in tensors.items()}
    try:
        return _decode(json.loads(metadata["state"]), placed), json.loads(metadata["header"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path}: its structure cannot be understood ({error!r})") from error


def _placed(tensor: Tensor) -> Tensor:
    """The same in memory of torch's own allocation.

    In a file, a tensor begins wherever the one before it ends, and MKL's matrix products and dot products round otherwise
    where it is not a multiple of 16 bytes.
    """
    return tensor.clone(memory_format=torch.contiguous_format)


def _in_order(data: bytes) -> bytes:
    """A safetensors file with its header's entries sorted; safetensors writes them in an order that changes by chance."""
    end = 8 + int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8:end]), separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)  # the format wants the tensors to begin at a multiple of 8
    return b"".join((len(text).to_bytes(8, "little"), text, memoryview(data)[end:]))


def _metadata(metadata: dict[str, str] | None, path: Path, kind: str) -> dict[str, str]:
    found = (metadata or {}).get("format")
    if metadata is None or found != kind:
        raise ArtefactError(f"{path}: expected a {kind} file, received {found or 'a file without that mark'}")
    if metadata.get("version") != str(FORMAT_VERSION):
        raise ArtefactError(
            f"{path}: format version {metadata.get('version')}; this pistar reads version {FORMAT_VERSION}. "
            "Use the pistar version that wrote it, or train anew"
        )
    return dict(metadata)


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for key in sorted(metadata):
        digest.update(f"{key}={metadata[key]}\n".encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(f"{key}:{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"state at {path or 'its root'}: keys must be str, received {key!r}")
        return {key: _encode(child, f"{path}/{key}" if path else key, tensors) for key, child in value.items()}
    if isinstance(value, Tensor | np.ndarray):
        array = isinstance(value, np.ndarray)
        tensor = (
            torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value.detach().cpu()
        )
        tensors[path] = tensor.clone(memory_format=torch.contiguous_format)
        return {_ARRAY if array else _TENSOR: path}
    if isinstance(value, list | tuple):
        children = [_encode(child, f"{path}/{index}", tensors) for index, child in enumerate(value)]
        return {"$tuple": children} if isinstance(value, tuple) else children
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"state at {path}: cannot store a {type(value).__name__}; use tensors, arrays, JSON scalars, lists, dicts"
    )


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        if _ARRAY in value:
            return tensors[value[_ARRAY]].numpy()
        if "$tuple" in value:
            return tuple(_decode(child, tensors) for child in value["$tuple"])
        return {key: _decode(child, tensors) for key, child in value.items()}
    if isinstance(value, list):
        return [_decode(child, tensors) for child in value]
    return value
