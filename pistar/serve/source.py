"""Where the served policy comes from, and noticing that there is a newer one.

An .onnx file is read as it is. A run, or a policy.safetensors, is exported first, by another process, so that the service itself
never imports torch; the same happens whenever its file changes. Only a file that was read whole, verified, found to be of
the same spaces and tried out replaces the policy that is served.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from pistar.errors import ArtefactError, PistarError
from pistar.export import ExportedPolicy
from pistar.serve.actor import Actor
from pistar.serve.service import Serving
from pistar.serve.settings import environment, located

LONGEST_EXPORT = 600.0  # seconds
LARGEST_FILE = 2**31  # bytes: more than ONNX's own limit is no policy
Stamp = tuple[int, int, int]

log = logging.getLogger("pistar.serve")


class Source:
    """A policy on disk."""

    def __init__(self, path: Path, trust: str | None, most: int) -> None:
        self.path, self.exported = located(path)
        self.given, self.trust, self.most = path, trust, most

    def stamp(self) -> Stamp | None:
        """What changes when the file does; None while it is away, as between removing and writing."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    async def load(self) -> Actor:
        """Read, verify and try out what stands there now. Raises PistarError; the event loop goes on meanwhile."""
        if not self.exported:
            return await asyncio.to_thread(self._read, self.path)
        with tempfile.TemporaryDirectory(prefix="pistar-serve-") as place:
            out = Path(place) / "policy.onnx"
            await self._export(out)
            return await asyncio.to_thread(self._read, out)

    def _read(self, path: Path) -> Actor:
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise ArtefactError(f"{path} is larger than any policy: {path.stat().st_size} bytes")
            return Actor(ExportedPolicy.load(path), self.most)
        except OSError as error:
            raise ArtefactError(f"{self.path} cannot be read: {error.strerror or error}") from error

    async def _export(self, out: Path) -> None:
        command = [sys.executable, "-m", "pistar", "export", str(self.path), "--out", str(out)]
        command += ["--trust", self.trust] if self.trust else []
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        try:
            _, said = await asyncio.wait_for(process.communicate(), LONGEST_EXPORT)
        except (TimeoutError, asyncio.CancelledError):
            process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
            reason = next((line for line in reversed(lines) if "error:" in line), lines[-1] if lines else "no reason")
            raise ArtefactError(f"{self.path} cannot be exported: {reason.removeprefix('pistar: error: ')}")


def require_same_spaces(old: Actor, new: Actor) -> None:
    """Raise ArtefactError where clients of the served policy could not use the new one."""
    if new.spaces != old.spaces or new.reset != old.reset:
        raise ArtefactError(
            f"the newer policy is for {new.spaces}{' with a memory' if new.reset else ''}, the one that is served for "
            f"{old.spaces}{' with a memory' if old.reset else ''}; start another service for it"
        )


async def watch(source: Source, serving: Serving, seen: Stamp | None) -> None:
    """Look at the file again and again, and serve what is newer; ends when it is cancelled."""
    while True:
        await asyncio.sleep(serving.settings.poll)
        now = source.stamp()
        if now is None or now == seen:
            continue
        seen = now
        try:
            actor = await source.load()
            require_same_spaces(serving.actor, actor)
        except (PistarError, OSError, TimeoutError) as error:
            serving.refuse(str(error) or "its export took too long")
            continue
        except Exception as error:  # a fault must not end the watch; the policy before goes on
            log.exception("a newer policy could not be loaded")
            serving.refuse(f"{type(error).__name__}: {error}")
            continue
        if actor.sha256 == serving.actor.sha256:
            serving.metrics.refused, serving.complaint = False, ""
            continue
        serving.replace(actor)
        log.info("serving a newer policy, %.12s, %s steps", actor.sha256, actor.policy.metadata.get("steps"))
