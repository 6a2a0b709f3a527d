"""``pistar export RUN|POLICY``: the policy as one ONNX file, compared with the torch policy before it appears."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pistar.cli import flags
from pistar.errors import UsageError
from pistar.run import find_policy

if TYPE_CHECKING:
    from pistar.export import ExportedPolicy

USAGE = """
usage: pistar export RUN|POLICY [--out policy.onnx] [--trust module:Class]

Write the policy of a run (RUN/policy.safetensors) or of a policy file (RUN/best.safetensors) as one ONNX file that acts without
pistar and without torch: normaliser, memory, masks and the way to the action space are inside, spaces and provenance in its
metadata. It is compared with the torch policy on thousands of observations before it appears.
"""


@dataclass(frozen=True)
class Options:
    """The flags of ``export``."""

    out: str | None = None  # the file, which ends in .onnx; none: policy.onnx beside the policy
    trust: str | None = None  # module:Class of a policy kind of your own, or of its parts, that the file may use

    def __post_init__(self) -> None:
        if self.out is not None and Path(self.out).suffix != ".onnx":
            raise UsageError(f"--out: expected a file that ends in .onnx, received {self.out!r}")


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = flags.of_command(argv, USAGE, Options)
    if arguments is None:
        return 0
    options, path = arguments.options(Options), find_policy(Path(arguments.only_word(USAGE)))
    beside = path / "policy.onnx" if path.is_dir() else path.with_suffix(".onnx")
    # Imported here: it imports torch, which nothing before this line needs.
    from pistar.export import export

    out = beside if options.out is None else Path(options.out)
    print(described(out, export(path, out, trust=options.trust)))
    return 0


def described(out: Path, policy: ExportedPolicy) -> str:
    """What was written, in words."""
    found = policy.metadata
    verified = found["verified"]
    steps = f" in {verified['steps']} steps" if verified["steps"] > 1 else ""
    lines = [
        f"{out} · {out.stat().st_size / 1024:.0f} KiB · {found['task'] or 'no task'} · inside: {', '.join(found['inside'])}",
        f"equal to the torch policy on {verified['observations']:,} observations{steps}, to {verified['largest_difference']:.1e}",
    ]
    for what, ports in (("in ", policy.inputs), ("out", policy.outputs)):
        lines += [f"  {what}  {port.name}  {port.dtype} {['N', *port.shape]}".replace("'", "") for port in ports]
    if found["unused"]:
        lines.append(f"not read: {', '.join('.'.join(path) for path in found['unused'])}")
    if found["sampling"] is not True:
        lines.append(f"deterministic actions only: {found['sampling']}")
    return "\n".join(lines)
