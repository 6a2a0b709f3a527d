"""An exported policy, read and run: onnxruntime and NumPy, no torch.

    policy = ExportedPolicy.load("policy.onnx")
    action, memory = policy.act(observation)

A file is believed only so far as it has been looked at: its checksum, what it may contain, that its metadata can be understood,
that the graph's inputs and outputs are the ones that the metadata and the spaces ask for, and that a step with zeros gives what
they promise. It may still compute anything at all: a file from a stranger can be a bad policy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pistar.errors import ArtefactError, MissingExtra, UsageError
from pistar.export import seal
from pistar.export.metadata import Description, Spaces, describe
from pistar.export.observations import Encoder
from pistar.export.ports import Port, assemble, leaf_spaces

Arrays = dict[str, NDArray[Any]]
FEW = 64  # rows up to which arrays of zeros are kept
FATAL = 4  # onnxruntime's log: what goes wrong is an exception


class ExportedPolicy:
    """A policy that acts by onnxruntime; made by `load` or `from_bytes`. Safe to use from several threads."""

    def __init__(self, session: Any, description: Description, sha256: str) -> None:
        self.session, self.sha256 = session, sha256
        self.metadata: dict[str, Any] = description.metadata
        self.spaces: Spaces = description.spaces
        self.inputs: tuple[Port, ...] = description.inputs
        self.outputs: tuple[Port, ...] = description.outputs
        self.has_memory: bool = any(port.role == "memory" for port in self.inputs)
        self.can_sample: bool = any(port.role == "sample" for port in self.outputs)
        self._seen, self._held, self._noise = (
            self._of(self.inputs, role) for role in ("observation", "memory", "noise")
        )
        self._after = self._of(self.outputs, "memory")
        self._encoder = Encoder(self.spaces.observation, self._seen)
        self._acted = {role: self._of(self.outputs, role) for role in ("action", "sample")}
        self._names = {role: [port.name for port in (*ports, *self._after)] for role, ports in self._acted.items()}
        self._zeros: dict[int, Arrays] = {}

    @classmethod
    def load(cls, path: str | Path) -> ExportedPolicy:
        """The policy of a file. Raises ArtefactError where it is damaged, foreign, or more than it should be."""
        path = Path(path)
        try:
            if path.stat().st_size > seal.LARGEST:
                raise ArtefactError(f"{path}: {path.stat().st_size:,} bytes are more than an ONNX file can have")
            data = path.read_bytes()
        except OSError as error:
            raise ArtefactError(f"{path}: {error.strerror or error}; expected a file of `pistar export`") from error
        return cls.from_bytes(data, str(path))

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "the file") -> ExportedPolicy:
        """The same of a file's bytes; ``name`` is what messages call it."""
        try:
            digest = seal.unseal(data)
            seal.inspect(data)
            session = _session(data)
            policy = cls(session, describe(session), digest)
            policy._require_as_described()
        except ArtefactError as error:
            raise ArtefactError(f"{name}: {error}") from error
        except (ValueError, TypeError, RuntimeError) as error:  # names that are no text, say
            raise ArtefactError(f"{name}: it cannot be understood ({error})") from error
        return policy

    def encode(self, observation: Any) -> tuple[bool, Arrays]:
        """An observation, or many, as inputs [N, ...]; True where it was a single one. Raises UsageError in words."""
        return self._encoder.encode(observation)

    def initial_memory(self, rows: int) -> Arrays:
        """The memory at the start of ``rows`` episodes, as inputs."""
        return {port.name: np.zeros((rows, *port.shape), port.dtype) for port in self._held}

    def draw_noise(self, rows: int, generator: np.random.Generator) -> Arrays:
        """Noise for one step of ``rows`` rows, as inputs; where a port says ``hold``, it may be kept for so many steps."""
        drawn: Arrays = {}
        for port in self._noise:
            shape = (rows, *port.shape)
            normal = port.noise == "normal"
            drawn[port.name] = (generator.standard_normal if normal else generator.random)(shape, np.float32)
        return drawn

    def no_noise(self, rows: int) -> Arrays:
        """Zeros, for deterministic actions; not to be written to."""
        if rows in self._zeros:
            return self._zeros[rows]
        made: Arrays = {port.name: np.zeros((rows, *port.shape), np.float32) for port in self._noise}
        if rows <= FEW:
            self._zeros[rows] = made
        return made

    def infer(self, feeds: Arrays, names: list[str] | None = None) -> Arrays:
        """The outputs called ``names`` (None: all) for complete inputs; ``is_first`` may be left out."""
        if self.has_memory and "is_first" not in feeds:
            feeds = {**feeds, "is_first": np.zeros(len(next(iter(feeds.values()))), np.bool_)}
        wanted = [port.name for port in self.outputs] if names is None else names
        return dict(zip(wanted, self.session.run(wanted, feeds), strict=True))

    def decode(self, outputs: Arrays, role: str = "action") -> Any:
        """The tree of the action space [N, ...] in the outputs; ``role`` is "action" or "sample"."""
        return assemble(self.spaces.action, {port.path: outputs[port.name] for port in self._acted[role]})

    def next_memory(self, outputs: Arrays) -> Arrays:
        """The memory in the outputs, as inputs of the next step."""
        return {inward.name: outputs[outward.name] for inward, outward in zip(self._held, self._after, strict=True)}

    def distribution(self, outputs: Arrays) -> list[dict[str, Any]]:
        """Every part of the action: path, family, parameters by name [N, ...] and scale, as the metadata has them."""
        return [
            {**part, "parameters": {word: outputs[name] for word, name in part["parameters"].items()}}
            for part in self.metadata["distribution"]
        ]

    def act(
        self,
        observation: Any,
        memory: Arrays | None = None,
        *,
        deterministic: bool = True,
        generator: np.random.Generator | None = None,
    ) -> tuple[Any, Arrays | None]:
        """As `pistar.Policy.act`: an action ready for ``step``, and the memory to pass next time (None without one).

        Raises UsageError for an observation of the wrong structure, shape or kind, and where sampling is not in the file.
        """
        if not deterministic and not self.can_sample:
            raise UsageError(f"this file has no sampled actions: {self.metadata['sampling']}")
        single, feeds = self.encode(observation)
        rows = len(next(iter(feeds.values()))) if feeds else 1
        noise = self.no_noise(rows) if deterministic else self.draw_noise(rows, generator or np.random.default_rng())
        held = self.initial_memory(rows) if memory is None else memory
        role = "action" if deterministic else "sample"
        outputs = self.infer({**feeds, **held, **noise}, self._names[role])
        leaves = {port.path: outputs[port.name][0] if single else outputs[port.name] for port in self._acted[role]}
        action = assemble(self.spaces.action, leaves)
        return action, self.next_memory(outputs) if self.has_memory else None

    def _first(self, port: Port) -> Any:
        """What stands for nothing in particular: zeros, of choices the first."""
        return (
            getattr(dict(leaf_spaces(self.spaces.observation))[port.path], "start", 0)
            if port.role == "observation"
            else 0
        )

    @staticmethod
    def _of(ports: tuple[Port, ...], role: str) -> tuple[Port, ...]:
        return tuple(port for port in ports if port.role == role)

    def _require_as_described(self) -> None:
        """One step with zeros for one row and for three: what comes out must be of the dtypes and shapes that were said."""
        for rows in (1, 3):
            feeds = {port.name: np.full((rows, *port.shape), self._first(port), port.dtype) for port in self.inputs}
            try:
                found = self.infer(feeds)
            except Exception as error:  # whatever onnxruntime's kernels find
                raise ArtefactError(f"its graph does not run: {str(error)[:200]}") from error
            for port in self.outputs:
                x = found[port.name]
                if x.dtype != port.dtype or x.shape != (rows, *port.shape):
                    said = f"{port.dtype} {(rows, *port.shape)}"
                    raise ArtefactError(f"its output {port.name} is {x.dtype} {x.shape}, but its metadata says {said}")


def _session(data: bytes) -> Any:
    """An onnxruntime session on one thread. Raises MissingExtra, or ArtefactError where it does not take the graph."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "export", "running an exported policy") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    options.add_session_config_entry("session.load_model_format", "ONNX")  # and not its own format, were it one
    try:  # without its "fallback", which prints and tries the same again
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # its exceptions have no class in common
        raise ArtefactError(f"onnxruntime cannot load it: {str(error)[:200]}") from error
