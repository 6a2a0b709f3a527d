"""A policy as one ONNX file that acts without pistar and without torch.

    pistar export runs/pole --out policy.onnx

Everything between the world's observation and the world's action is inside the graph: normaliser, encoders, memory with its
resets, masks, distribution, and the way to the space's bounds and dtypes. Sampled actions take their noise as an input. The file
says in its metadata what goes in and out and where the policy comes from, and is compared with the torch policy before it appears.

Writing takes torch, onnx and onnxscript; reading (`ExportedPolicy`) only onnxruntime, NumPy and Gymnasium's spaces.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pistar.export.ports import Port
    from pistar.export.reading import ExportedPolicy
    from pistar.export.writing import export, to_bytes

__all__ = ["ExportedPolicy", "Port", "export", "to_bytes"]

_HOME = {"ExportedPolicy": "reading", "Port": "ports", "export": "writing", "to_bytes": "writing"}


def __getattr__(name: str) -> Any:
    """Import a public name's module when the name is first used: reading must not import torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
