"""The policy that is served, the sessions with it, and how requests reach it.

A small request is answered at once on the event loop, because handing it to a thread would cost more than answering it. What
would hold others up for long goes to one worker thread, with a limit on its time and on how many wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import onnxruntime

from pistar.serve.actor import Actor, Carried, Question
from pistar.serve.metrics import Metrics
from pistar.serve.refusals import Refusal
from pistar.serve.sessions import Entry, Sessions
from pistar.serve.settings import Service

AT_ONCE = 0.003  # seconds of inference that the event loop takes upon itself
WAITING = 16  # requests that may wait for the worker thread
KEPT = 4  # replaced policies that are kept for the sessions that began with them

log = logging.getLogger("pistar.serve")


class Serving:
    """All state of a service; used on the event loop only."""

    def __init__(self, actor: Actor, settings: Service) -> None:
        self.actor, self.settings, self.metrics = actor, settings, Metrics()
        self.sessions: Sessions[Carried] = Sessions(settings.sessions, settings.session_idle)
        self.waiting = 0
        self.complaint = ""  # why the newest policy is not served; empty while it is
        self._worker = ThreadPoolExecutor(1, "inference")

    # ---- acting -------------------------------------------------------------------------------------------------------

    async def act(self, body: bytes) -> bytes:
        """The answer to a body of ``POST /v1/act``. Raises Refusal."""
        actor, carried, entry = self.actor, None, None
        question = actor.read(body)
        if question.session is not None:
            entry, question = self.join(question, body)
            carried = entry.value
            actor = carried.actor
        self.metrics.observations += question.count
        if question.count * actor.seconds < AT_ONCE:
            return actor.infer(question, carried)
        if entry is not None:
            entry.busy = True
        try:
            return await self.in_worker(actor, question, carried)
        finally:
            if entry is not None:
                entry.busy = False

    def join(self, question: Question, body: bytes) -> tuple[Entry[Carried], Question]:
        """The session that a request names, and the request as that session's policy reads it.

        Episodes end under the policy that they began with: a session goes on with a replaced policy until all its lanes
        begin anew.
        """
        assert question.session is not None
        entry = self.sessions.use(question.session)
        carried = entry.value
        if entry.busy:
            raise Refusal(
                409,
                "the session is busy",
                "one request of a session at a time",
                "another one that is not answered yet",
                "wait for its answer: the order of observations is what a memory is about",
            )
        if question.count != carried.lanes:
            raise Refusal(
                422,
                "observations do not fit the session",
                f"{carried.lanes} of them, as many as the session has lanes",
                str(question.count),
                'begin a session with {"lanes": N} for N observations at a time',
            )
        if carried.actor is not self.actor:
            first = question.first
            if first is True or (isinstance(first, list) and all(first)):
                entry.value = self.actor.begin(carried.lanes)
            else:
                question = carried.actor.read(body)
        return entry, question

    async def in_worker(self, actor: Actor, question: Question, carried: Carried | None) -> bytes:
        """Answer in the worker thread. Raises Refusal where too many wait (429), or where it takes too long (503)."""
        if self.waiting >= WAITING:
            raise Refusal(
                429,
                "too many large requests at once",
                f"at most {WAITING} waiting",
                f"{self.waiting} waiting",
                "try again in a second, or send fewer observations in a request",
                [(b"retry-after", b"1")],
            )
        self.waiting += 1
        options = onnxruntime.RunOptions()
        began = time.perf_counter()
        future = asyncio.get_running_loop().run_in_executor(self._worker, actor.infer, question, carried, options)
        try:
            done, _ = await asyncio.wait({future}, timeout=self.settings.timeout)
            if not done:
                options.terminate = True  # onnxruntime stops before its next operation
                await asyncio.wait({future})
                future.exception()
                raise Refusal(
                    503,
                    "the answer took too long",
                    f"at most {self.settings.timeout:g} s",
                    f"{question.count} observations took longer",
                    "send fewer observations in a request, or start the service with a longer --timeout",
                )
            actor.seconds += 0.2 * ((time.perf_counter() - began) / question.count - actor.seconds)
            return future.result()
        finally:
            self.waiting -= 1

    def begin(self, lanes: int) -> str:
        """A new session with the newest policy."""
        return self.sessions.begin(self.actor.begin(lanes), lanes)

    # ---- a newer policy -----------------------------------------------------------------------------------------------

    def replace(self, actor: Actor) -> None:
        """Serve another policy from the next request on; those under way and sessions go on with theirs."""
        self.actor, self.complaint = actor, ""
        self.metrics.reloads["accepted"] += 1
        self.metrics.refused, self.metrics.loaded = False, time.time()
        kept: dict[int, Actor] = {}
        for carried in self.sessions.values():
            kept.setdefault(id(carried.actor), carried.actor)
        surplus = [each for each in kept.values() if each is not actor]
        surplus.sort(key=lambda each: each.born)
        for old in surplus[:-KEPT]:
            ended = self.sessions.drop(lambda carried, old=old: carried.actor is old)  # type: ignore[misc]
            log.warning("ended %d sessions of the policy %.12s, which was replaced long ago", ended, old.sha256)

    def refuse(self, complaint: str) -> None:
        """Note that the newest policy cannot be served."""
        self.complaint = complaint
        self.metrics.reloads["refused"] += 1
        self.metrics.refused = True
        log.error("the newer policy is not served, the one before goes on: %s", complaint)

    def gauges(self) -> dict[str, tuple[str, float]]:
        """What the metrics page adds to its own counts."""
        sessions = self.sessions
        return {
            "pistar_sessions": ("Sessions that are kept.", len(sessions)),
            "pistar_session_lanes": ("Lanes of the sessions that are kept.", sessions.size),
            "pistar_session_lanes_limit": ("Lanes that may be kept.", sessions.capacity),
            "pistar_sessions_begun": ("Sessions begun since the start.", sessions.begun),
            "pistar_sessions_expired": ("Sessions ended because they were idle.", sessions.expired),
            "pistar_sessions_refused": ("Sessions refused because there was no room.", sessions.refused),
            "pistar_waiting_requests": ("Large requests that wait for the worker thread.", self.waiting),
        }

    def labels(self) -> dict[str, str]:
        """The served policy, for the metrics page."""
        metadata: dict[str, Any] = self.actor.policy.metadata
        return {"sha256": self.actor.sha256, "task": str(metadata.get("task")), "steps": str(metadata.get("steps"))}

    def close(self) -> None:
        """Let the worker thread end."""
        self._worker.shutdown(wait=False, cancel_futures=True)
