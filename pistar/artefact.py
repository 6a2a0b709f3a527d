"""The policy file: weights, normaliser, spaces, action post-processing and provenance in one safetensors file.

What a file says is data: loading builds a registered policy kind from its settings and fills in tensors. A kind of the
user's own is a module to import, which a file may name but never cause: it is built only when the caller names the same
``module:Class`` as trusted, and only if its source is still the one that the file was written with. The same holds for
every module that a kind's settings name as a part of the policy.
"""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import Any

import torch

from pistar import __version__, configuration, serialization, spaces
from pistar.envs.environment import Spaces
from pistar.errors import ArtefactError, UsageError
from pistar.grouped_policy import GroupedPolicy
from pistar.policies import POLICIES
from pistar.policy import Policy
from pistar.registry import load as load_class

KIND = "pistar-policy"


def save(policy: Policy, path: Path, provenance: dict[str, Any] | None = None) -> None:
    """Write ``policy`` to ``path`` atomically; ``provenance`` (task, steps, seed, ...) goes into the header.

    Raises NumericalError where a parameter is NaN or infinite, StorageError where the disk refuses.
    """
    policy.require_finite()
    header: dict[str, Any] = {"provenance": {"pistar": __version__, "torch": torch.__version__, **(provenance or {})}}
    if isinstance(policy, GroupedPolicy):
        header["groups"] = [[name, _described(part)] for name, part in policy.groups.items()]
        serialization.write(path, {"groups": {n: _tensors(p) for n, p in policy.groups.items()}}, KIND, header)
    else:
        serialization.write(path, {"tensors": _tensors(policy)}, KIND, {**header, **_described(policy)})


def _described(policy: Policy) -> dict[str, Any]:
    """All but its tensors."""
    kind = POLICIES.kind_of(policy.kind)
    header: dict[str, Any] = {
        "policy": {"kind": kind, **configuration.to_table(policy.kind)},
        "observation_space": spaces.encode(policy.spaces.observation),
        "action_space": spaces.encode(policy.spaces.action),
        "dtype": str(next(policy.parameters()).dtype).removeprefix("torch."),
    }
    if ":" in kind:
        header["source_sha256"] = source_digest(type(policy.kind))
    if modules_of(policy.kind):
        header["module_sha256"] = {name: source_digest(import_class(name)) for name in modules_of(policy.kind)}
    return header


def _tensors(policy: Policy) -> dict[str, torch.Tensor]:
    return {name.replace(".", "/"): tensor for name, tensor in policy.state_dict().items()}


def load(path: str | Path, trust: str | None = None) -> Policy:
    """The policy of a file, or of a run directory (its ``policy.safetensors``), ready to act on the CPU.

    ``trust`` names the ``module:Class`` of a policy kind of your own, or of its parts, that the file may use; several are
    separated by commas. Raises ArtefactError where the file is truncated, altered, of another version, or names code that is
    not trusted; nothing is imported then.
    """
    path = Path(path)
    return rebuild(*contents(path), trust, path)


def contents(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(state, header) of a policy file, or of a run's: all that `rebuild` needs, and nothing but data."""
    return serialization.read(path / "policy.safetensors" if path.is_dir() else path, KIND)


def rebuild(state: dict[str, Any], header: dict[str, Any], trust: str | None, path: Path) -> Policy:
    """The policy of a file's contents, as `load` gives it; ``path`` is what errors call it."""
    try:
        policy: Policy
        if "groups" in header:
            tensors = state["groups"]
            policy = GroupedPolicy({n: _built(part, tensors[n], trust, path) for n, part in header["groups"]})
        else:
            policy = _built(header, state["tensors"], trust, path)
    except (ArtefactError, UsageError) as error:
        named = str(path) in str(error)
        raise ArtefactError(str(error) if named else f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ArtefactError(f"{path}: its content does not fit the policy that it describes ({error})") from error
    return policy.eval()


def _built(header: dict[str, Any], tensors: dict[str, torch.Tensor], trust: str | None, path: Path) -> Policy:
    """The policy that `_described` describes."""
    table = dict(header["policy"])
    kind = table.pop("kind")
    space = Spaces(spaces.decode(header["observation_space"]), spaces.decode(header["action_space"]))
    cls = _kind_class(kind, header, trust, path)
    described = configuration.build(cls, table, str(path))
    for name in modules_of(described):
        require_trust(name, header.get("module_sha256", {}).get(name), trust, path)
    policy: Policy = described.build(space, torch.Generator().manual_seed(0))
    policy.to({"float32": torch.float32, "float64": torch.float64}[header["dtype"]])
    policy.load_state_dict({name.replace("/", "."): tensor for name, tensor in tensors.items()})
    return policy


def provenance(path: Path) -> dict[str, Any]:
    """What the header says of where the policy comes from."""
    return dict(contents(path)[1]["provenance"])


def _kind_class(kind: str, header: dict[str, Any], trust: str | None, path: Path) -> Any:
    if kind in POLICIES.names():
        return POLICIES.get(kind)
    if ":" not in kind:
        known = ", ".join(POLICIES.names())
        raise ArtefactError(
            f"{path} holds a policy of the kind {kind!r}, which this pistar does not have (known: {known})"
        )
    return require_trust(kind, header.get("source_sha256"), trust, path)


def require_trust(name: str, digest: Any, trust: str | None, path: Path) -> Any:
    """The class ``name``, imported only if the caller trusts it; refused where its source is another than the file's."""
    if name not in (trust or "").split(","):
        raise ArtefactError(
            f"{path} uses {name!r}, which is code outside pistar; nothing was imported. "
            f"If you trust it, say so: --trust {name} (or trust={name!r}; several are separated by commas)"
        )
    cls = import_class(name)
    if digest != source_digest(cls):
        raise ArtefactError(
            f"{path} was written with another version of {name}'s source; restore that version to load it"
        )
    return cls


def modules_of(kind: Any) -> list[str]:
    """Every ``module:Class`` that the settings of a policy kind name."""
    return list(kind.modules()) if hasattr(kind, "modules") else []


def code_of(kind: Any) -> str:
    """What ``trust`` must say for a file of this kind to be loaded."""
    return ",".join((POLICIES.kind_of(kind), *modules_of(kind)))


def import_class(name: str) -> Any:
    """The class of a ``module:Class``."""
    return load_class(name, "part of a policy")


def source_digest(cls: type) -> str:
    """SHA-256 of the source file of a class."""
    return hashlib.sha256(Path(inspect.getfile(cls)).read_bytes()).hexdigest()
