"""`export`: from a run or a policy file to an ONNX file that has been compared with it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from pistar import __version__, artefact, configuration
from pistar.errors import UsageError
from pistar.export import metadata, seal
from pistar.export.graph import Layout, build, plan, require, single_precision
from pistar.export.reading import ExportedPolicy
from pistar.export.verification import verify
from pistar.policies import POLICIES
from pistar.policy import Policy


def export(source: str | Path, out: str | Path, *, trust: str | None = None) -> ExportedPolicy:
    """Write the policy of a run (its ``policy.safetensors``) or of a policy file to ``out``, and return it as a reader sees it.

    ``trust`` is that of `pistar.load`. Raises UsageError where the policy cannot be written as a graph, ArtefactError where the
    graph does not act as the policy does; ``out`` appears whole and compared, or not at all, and one that stands there stays.
    """
    source, out = Path(source), Path(out)
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package)
    require_place(out)
    policy = artefact.load(source, trust)
    file = source / "policy.safetensors" if source.is_dir() else source
    data = to_bytes(policy, artefact.provenance(file), hashlib.sha256(file.read_bytes()).hexdigest())
    from pistar import serialization

    exported = ExportedPolicy.from_bytes(data, str(out))
    serialization.write_bytes(out, data)
    return exported


def require_place(out: Path) -> None:
    """Refuse a place that cannot be written to before minutes of work."""
    if out.suffix != ".onnx" or out.is_dir():
        raise UsageError(f"--out: expected a file that ends in .onnx, received {out}")
    if not out.parent.is_dir():
        raise UsageError(f"--out: there is no folder {out.parent}; make it first")


def to_bytes(policy: Policy, provenance: dict[str, Any] | None = None, source_sha256: str | None = None) -> bytes:
    """The file of a policy, compared with it; the same policy gives the same bytes. Raises as `export` does.

    The graph computes in single precision, whatever the policy does.
    """
    policy.require_finite()
    single = single_precision(policy)
    layout = plan(single)
    model = build(single, layout)
    if not layout.of("observation"):
        raise UsageError("this policy reads nothing of the observation: there is nothing to write")
    words = _words(policy, layout, provenance or {}, source_sha256)
    trial = ExportedPolicy.from_bytes(_sealed(model, policy, layout, {**words, "verified": None}), "the graph")
    return _sealed(model, policy, layout, {**words, "verified": verify(policy, layout, trial).to_json()})


def _sealed(model: Any, policy: Policy, layout: Layout, words: dict[str, Any]) -> bytes:
    """The model with its metadata and checksum."""
    spaces = metadata.Spaces(policy.spaces.observation, policy.spaces.action)
    record = metadata.compose(spaces, layout.inputs, layout.outputs, **words)
    del model.metadata_props[:]
    model.metadata_props.add(key=metadata.KEY, value=metadata.dumps(record))
    return seal.seal(model.SerializeToString(deterministic=True))


def _words(policy: Policy, layout: Layout, provenance: dict[str, Any], source_sha256: str | None) -> dict[str, Any]:
    """All that the metadata says besides spaces and ports."""
    import onnxruntime

    task = provenance.get("task") or {}
    read = {port.path for port in layout.inputs if port.role == "observation"}
    kind = configuration.to_table(policy.kind) if policy.kind is not None else {}
    return {
        "pistar": __version__,
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "task": task.get("id") or task.get("kind"),
        **{key: provenance.get(key) for key in ("steps", "algorithm", "seed")},
        "provenance": provenance,
        "source_sha256": source_sha256,
        "policy": {"kind": POLICIES.kind_of(policy.kind), **kind},
        "distribution": layout.distribution,
        "mask": policy.mask,
        "memory": layout.memory is not None,
        "sampling": True if layout.sampling is None else layout.sampling,
        "unused": [list(port.path) for port in layout.observation if port.path not in read],
        "inside": _inside(policy, layout),
    }


def _inside(policy: Policy, layout: Layout) -> list[str]:
    """What a user need not do himself."""
    from pistar.normalization import Normalizer

    normalised = any(isinstance(module, Normalizer) for module in policy.modules())
    has = {"normaliser": normalised, "memory": layout.memory is not None, "mask": policy.mask is not None}
    return [name for name, inside in has.items() if inside] + ["action post-processing"]
