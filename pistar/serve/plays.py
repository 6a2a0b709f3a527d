"""Episodes of the policy's own task, for the page: the world in a process of its own, the actions from the served policy.

Only with ``--play``, and only a task that is registered in pistar: a policy file may name one, but never code.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from pistar import experiment, spaces
from pistar.errors import EnvironmentFailure, UsageError
from pistar.serve.refusals import Refusal
from pistar.serve.service import Serving
from pistar.serve.sessions import Sessions
from pistar.serve.settings import environment

MOST, IDLE = 4, 60.0  # episodes at the same time; seconds after which one that nobody watches ends
PATIENCE = 20.0  # seconds for a step, a drawing or a beginning
LARGEST_SEED = 2**31 - 1
STEPS = 50  # most steps in one request

log = logging.getLogger("pistar.serve")


@dataclass
class Play:
    """One episode after another."""

    name: str  # in the stage
    session: str  # with the policy
    observation: Any
    first: bool = True
    total: float = 0.0
    steps: int = 0


class BeginPlay(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /v1/plays``."""

    seed: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_SEED)] | None = None


class StepPlay(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /v1/plays/{play}``."""

    deterministic: bool = True
    steps: Annotated[int, msgspec.Meta(ge=1, le=STEPS)] = 1


class Plays:
    """The stage and what is played on it."""

    def __init__(self, serving: Serving, table: dict[str, Any]) -> None:
        self.serving, self.table, self.name = serving, table, ""
        self.store: Sessions[Play] = Sessions(MOST, IDLE, "play", "POST /v1/plays")
        self.lock = asyncio.Lock()
        self.process: asyncio.subprocess.Process | None = None

    @staticmethod
    async def open(serving: Serving, task: str | None) -> Plays:
        """Start the stage and see that the policy fits the task. Raises UsageError."""
        plays = Plays(serving, task_table(serving.actor.policy.metadata, task))
        try:
            opened = await plays.ask({"do": "open"})
            pair, mine = (
                [spaces.decode(opened[f"{each}_space"]) for each in ("observation", "action")],
                serving.actor.spaces,
            )
            if pair != [mine.observation, mine.action]:
                raise UsageError(f"the policy is for {mine}, but {opened['name']} has {pair}; name another with --task")
        except EnvironmentFailure as error:
            raise UsageError(f"--play: {error}") from error
        except BaseException:
            await plays.close()
            raise
        plays.name = opened["name"]
        return plays

    async def begin(self, begin: BeginPlay) -> dict[str, Any]:
        """A new episode: its name, observation and frame. Raises Refusal (503)."""
        self.forget(self.store.expire())
        self.forget([old] if (old := self.store.make_room()) is not None else [])
        seed = secrets.randbelow(LARGEST_SEED) if begin.seed is None else begin.seed
        name = secrets.token_hex(8)
        play = Play(name, "", None)
        key = self.store.begin(play)
        try:
            play.session = self.serving.begin(1)
            live = [each.name for each in self.store.values()]
            came = await self.command({"do": "begin", "play": name, "seed": seed, "live": live})
        except BaseException:
            with contextlib.suppress(Refusal):
                self.store.end(key)
            raise
        play.observation = came["observation"]
        return {"play": key, "task": self.name, "seed": seed, **shown(came)}

    async def step(self, key: str, step: StepPlay) -> dict[str, Any]:
        """Some steps, fewer where the episode ends: the last one's observation, action, distribution and frame."""
        entry = self.store.use(key)
        if entry.busy:
            raise Refusal(409, "this play is in use", "one request at a time", "two", "wait for the answer")
        entry.busy = True
        try:
            for _ in range(step.steps):
                result = await self._step(entry.value, step.deterministic)
                if result["ended"]:
                    break
            return result
        finally:
            entry.busy = False

    async def _step(self, play: Play, deterministic: bool) -> dict[str, Any]:
        asked = {
            "observation": play.observation,
            "deterministic": deterministic or not self.serving.actor.policy.can_sample,
            "session": play.session,
            "first": play.first,
            "distribution": True,
        }
        acted = msgspec.json.decode(await self.serving.act(msgspec.json.encode(asked)))
        came = await self.command({"do": "step", "play": play.name, "action": acted["action"]})
        play.total, play.steps = play.total + came["reward"], play.steps + 1
        result = {
            "seen": play.observation,
            "action": acted["action"],
            "distribution": acted["distribution"],
            "reward": came["reward"],
            "return": play.total,
            "steps": play.steps,
            "ended": came["ended"],
            "policy": acted["policy"],
            **shown(came),
        }
        play.observation, play.first = came["observation"], came["ended"] is not None
        if play.first:
            play.total, play.steps = 0.0, 0
        return result

    async def end(self, key: str) -> None:
        """Forget an episode; its world is closed when the next one begins."""
        play = self.store.end(key)
        with contextlib.suppress(Refusal):
            self.serving.sessions.end(play.session)

    def forget(self, ended: list[Play]) -> None:
        """End the sessions of plays that ended because nobody watched, or others began."""
        for play in ended:
            with contextlib.suppress(Refusal):
                self.serving.sessions.end(play.session)

    # ---- the process --------------------------------------------------------------------------------------------------

    async def command(self, message: dict[str, Any]) -> dict[str, Any]:
        """``ask``, with a failure as a refusal (503)."""
        try:
            return await self.ask(message)
        except EnvironmentFailure as error:
            raise Refusal(
                503,
                "the task failed",
                "a world that steps and draws",
                str(error)[:300],
                "begin another play; `pistar doctor` examines a world",
            ) from error

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """A command's answer. Raises EnvironmentFailure where the world fails, the process dies or does not answer."""
        async with self.lock:
            try:
                if self.process is None:
                    self.process = await self.start()
                answer = await asyncio.wait_for(exchange(self.process, message), PATIENCE)
            except (TimeoutError, OSError, asyncio.IncompleteReadError, msgspec.MsgspecError) as error:
                await self.kill()
                raise EnvironmentFailure(
                    "its process died or did not answer; it is started again with the next play"
                ) from error
            except asyncio.CancelledError:  # half an answer may be on its way: that process cannot be used again
                await self.kill()
                raise
        if "error" in answer:
            raise EnvironmentFailure(str(answer["error"]))
        return answer

    async def start(self) -> asyncio.subprocess.Process:
        """The stage's process."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pistar.serve.stage",
            msgspec.json.encode(self.table).decode(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
        )

    async def kill(self) -> None:
        """End the process; every play ends with it."""
        process, self.process = self.process, None
        self.store.drop(lambda play: True)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def close(self) -> None:
        """End the process."""
        await self.kill()


async def exchange(process: asyncio.subprocess.Process, message: dict[str, Any]) -> dict[str, Any]:
    """Write a message, read its answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    data = msgspec.msgpack.encode(message)
    process.stdin.write(len(data).to_bytes(4, "big") + data)
    await process.stdin.drain()
    length = int.from_bytes(await process.stdout.readexactly(4), "big")
    answer: dict[str, Any] = msgspec.msgpack.decode(await process.stdout.readexactly(length))
    return answer


def shown(came: dict[str, Any]) -> dict[str, Any]:
    """The observation, and the frame as an image that a page can show."""
    frame = "data:image/jpeg;base64," + base64.b64encode(came["frame"]).decode()
    return {"observation": came["observation"], "frame": frame}


def task_table(metadata: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """The task to play: ``name``, else the one that the policy names. Raises UsageError unless it is pistar's own."""
    if name is not None:
        return dict(experiment.find_task(name))
    provenance = metadata.get("provenance")
    table = provenance.get("task") if isinstance(provenance, dict) else None
    if not isinstance(table, dict) or not table:
        raise UsageError("--play: the policy does not say which task it is for; pass --task NAME")
    if not harmless(table):
        raise UsageError(
            "--play: the policy names a task outside pistar, or a file; pass --task NAME if you trust what it names"
        )
    return dict(table)


def harmless(value: Any) -> bool:
    """Whether no text in a task's settings could name a module or a file."""
    if isinstance(value, str):
        return not any(mark in value for mark in (":", "\\", "..")) and not value.startswith(("/", "~", "."))
    if isinstance(value, dict):
        return all(harmless(each) for each in (*value.keys(), *value.values()))
    return not isinstance(value, list) or all(harmless(each) for each in value)
