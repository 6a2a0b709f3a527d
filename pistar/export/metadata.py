"""What an exported policy says of itself, as JSON in the file's metadata; written here and believed only where it holds.

The format is version 1. ``pistar`` is the key; the record's keys are those of `compose`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from gymnasium.spaces import Space

from pistar import spaces as encoding
from pistar.errors import ArtefactError
from pistar.export.ports import Port, action_ports, from_json, observation_ports

KEY, FORMAT, VERSION = "pistar", "pistar-onnx", 1
LARGEST = 2**24  # characters of the record
_TYPES = {  # onnxruntime's names
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True)
class Spaces:
    """What one lane sees and does; `pistar.Spaces` without torch."""

    observation: Space[Any]
    action: Space[Any]


@dataclass(frozen=True)
class Description:
    """The record, and what it says of spaces and ports."""

    metadata: dict[str, Any]
    spaces: Spaces
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def compose(spaces: Spaces, inputs: Iterable[Port], outputs: Iterable[Port], **words: Any) -> dict[str, Any]:
    """The record of a file; ``words`` are provenance and all else that is only told."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "observation_space": encoding.encode(spaces.observation),
        "action_space": encoding.encode(spaces.action),
        "inputs": [port.to_json() for port in inputs],
        "outputs": [port.to_json() for port in outputs],
        **words,
    }


def dumps(record: dict[str, Any]) -> str:
    """Strict JSON."""
    return json.dumps(record, allow_nan=False, ensure_ascii=False)


def describe(session: Any) -> Description:
    """The description in a session's model. Raises ArtefactError where the graph is not as it says."""
    found = session.get_modelmeta().custom_metadata_map.get(KEY)
    if found is None or len(found) > LARGEST:
        raise ArtefactError("it says nothing of a policy: it was not made by `pistar export`")
    try:
        record = json.loads(found, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"its metadata is no JSON ({error})") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ArtefactError(f"its metadata is not that of a {FORMAT} file")
    if record.get("version") != VERSION:
        raise ArtefactError(
            f"it is of format version {str(record.get('version'))[:20]}, and this pistar reads version {VERSION}; "
            "export the policy again, or use the pistar that wrote it"
        )
    description = _read(record)
    for what, ports, nodes in (
        ("input", description.inputs, session.get_inputs()),
        ("output", description.outputs, session.get_outputs()),
    ):
        _require_same(what, ports, nodes)
    return description


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _read(record: dict[str, Any]) -> Description:
    missing = [key for key in ("observation_space", "action_space", "distribution", "sampling") if key not in record]
    lists = [key for key in ("inputs", "outputs", "distribution") if not isinstance(record.get(key), list)]
    if missing or lists:
        raise ArtefactError(f"its metadata lacks {', '.join(dict.fromkeys([*missing, *lists]))}")
    space = Spaces(encoding.decode(record["observation_space"]), encoding.decode(record["action_space"]))
    inputs, outputs = (tuple(from_json(each) for each in record[key]) for key in ("inputs", "outputs"))
    _require_of_spaces(space, inputs, outputs)
    _require_consistent(record, inputs, outputs)
    return Description(record, space, inputs, outputs)


def _require_of_spaces(space: Spaces, inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> None:
    """Observations and actions are those of the spaces."""
    seen = [port for port in inputs if port.role == "observation"]
    if not seen or any(port not in observation_ports(space.observation) for port in seen):
        raise ArtefactError("its inputs are not those of its observation space")
    for role in ("action", "sample"):
        given = [port for port in outputs if port.role == role]
        if given != action_ports(space.action, role) and not (role == "sample" and not given):
            raise ArtefactError(f"its outputs of the role {role!r} are not those of its action space")


def _require_consistent(record: dict[str, Any], inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> None:
    """Memory goes in as it comes out, resets come with it, and what is told of the distribution is there."""
    into, out = ([(p.path, p.dtype, p.shape) for p in ports if p.role == "memory"] for ports in (inputs, outputs))
    resets = [(port.name, port.dtype, port.shape) for port in inputs if port.role == "reset"]
    if into != out or resets != ([("is_first", "bool", ())] if into else []):
        raise ArtefactError("its memory does not go in as it comes out")
    samples = any(port.role == "sample" for port in outputs)
    if samples != (record["sampling"] is True) or not (samples or isinstance(record["sampling"], str)):
        raise ArtefactError("its metadata contradicts its outputs about sampled actions")
    known = {port.name for port in outputs if port.role == "distribution"}
    for part in record["distribution"]:
        names = part.get("parameters") if isinstance(part, dict) else None
        if (
            not isinstance(names, dict)
            or not isinstance(part.get("family"), str)
            or not isinstance(part.get("path"), list)
            or not {str(name) for name in names.values()} <= known
        ):
            raise ArtefactError("what its metadata says of the distribution is not among its outputs")


def _require_same(what: str, ports: tuple[Port, ...], nodes: Any) -> None:
    """The graph's own inputs or outputs are the ports: names, types, sizes, and a batch of any size in front."""
    there = {node.name: node for node in nodes}
    if set(there) != {port.name for port in ports} or len(ports) != len(nodes):
        raise ArtefactError(
            f"its graph has the {what}s {sorted(there)}, but its metadata says {sorted(p.name for p in ports)}"
        )
    for port in ports:
        node = there[port.name]
        dtype, shape = _TYPES.get(node.type), list(node.shape)
        if dtype != port.dtype or not shape or isinstance(shape[0], int) or tuple(shape[1:]) != port.shape:
            raise ArtefactError(
                f"its {what} {port.name} is {node.type} {shape}, but its metadata says {port.dtype} ['batch', {port.shape}]"
            )
