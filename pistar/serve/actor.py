"""An exported policy, made ready to answer: request -> feeds -> onnxruntime -> answer.

All that can be decided once is decided when the policy is loaded. It differs from `pistar.export.ExportedPolicy.act`, which
checks any observation tree in Python on every call, by leaving the checks to the decoder that its spaces were compiled into.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from gymnasium import spaces
from msgspec import UNSET
from numpy.typing import NDArray

from pistar.errors import ArtefactError
from pistar.export import ExportedPolicy
from pistar.serve import schema
from pistar.serve.explain import explain
from pistar.serve.refusals import Refusal
from pistar.serve.schema import Feeds


@dataclass
class Carried:
    """What a session keeps between requests: the memory of each lane, and noise that is held for several steps."""

    actor: Actor
    lanes: int
    memory: Feeds
    noise: Feeds = field(default_factory=dict)
    age: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # steps of each lane's episode


@dataclass
class Question:
    """A request, decoded: N observations and how to act on them."""

    feeds: Feeds
    count: int
    single: bool
    deterministic: bool
    session: str | None
    first: bool | list[bool]
    seed: int | None
    distribution: bool


class Actor:
    """One policy. ``infer`` may be called from any thread, one call at a time for a session."""

    def __init__(self, policy: ExportedPolicy, most: int) -> None:
        self.policy, self.sha256, self.spaces = policy, policy.sha256, policy.spaces
        ports = [port for port in policy.inputs if port.role == "observation"]
        self.unused = [tuple(path) for path in policy.metadata.get("unused", [])]
        self.packers = [
            schema.Packer(policy.spaces.observation, port.name, tuple(port.path), port.dtype) for port in ports
        ]
        self.request = schema.request_type(policy.spaces.observation, self.unused, most)
        self.decoder = msgspec.json.Decoder(self.request)
        self.held = {port.name: int(port.hold) for port in policy.inputs if port.role == "noise" and port.hold != 1}
        self.names = {
            role: [port.name for port in policy.outputs if port.role in (role, "memory")]
            for role in ("action", "sample")
        }
        self.parameters = [port.name for port in policy.outputs if port.role == "distribution"]
        self.floating = [
            port.name for port in policy.outputs if port.role in ("action", "sample") and "float" in port.dtype
        ]
        self.plain = {  # the one output that is the whole action, where the space is no Dict or Tuple
            port.role: port.name for port in policy.outputs if port.role in ("action", "sample") and not port.path
        }
        self.reset = policy.has_memory
        self.generator = np.random.default_rng()
        self.seconds = 0.0  # that an observation takes, about
        self.born = time.monotonic()
        self.try_out()

    # ---- loading ------------------------------------------------------------------------------------------------------

    def try_out(self) -> None:
        """Act once on zeros, to find out what it costs and whether it answers; raises ArtefactError."""
        feeds: Feeds = {each.name: each.zeros() for each in self.packers}
        feeds |= self.policy.initial_memory(1) | self.policy.no_noise(1)
        if self.reset:
            feeds["is_first"] = np.ones(1, np.bool_)
        try:
            self.seconds = min(self._timed(feeds) for _ in range(5))
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise ArtefactError(f"the policy does not run: {error}") from error

    def _timed(self, feeds: Feeds) -> float:
        began = time.perf_counter()
        self.policy.session.run(None, feeds)
        return time.perf_counter() - began

    # ---- a request ----------------------------------------------------------------------------------------------------

    def read(self, body: bytes) -> Question:
        """Decode and check a body. Raises Refusal (400, 422)."""
        space = self.spaces.observation
        try:
            asked: Any = self.decoder.decode(body)
            one, many = asked.observation, asked.observations
            if (one is UNSET) == (many is UNSET):
                raise Refusal(
                    422,
                    "the body does not fit",
                    "either observation (one) or observations (a list of them)",
                    "none of them" if one is UNSET else "both",
                    "send one of the two",
                )
            values = many if one is UNSET else [one]
            feeds = {packer.name: packer(values) for packer in self.packers}
        except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError, RecursionError) as error:
            raise explain(body, error, space, self.unused, self.request) from None
        question = Question(
            feeds,
            len(values),
            one is not UNSET,
            asked.deterministic,
            asked.session,
            asked.first,
            asked.seed,
            asked.distribution,
        )
        self.require_possible(question)
        return question

    def require_possible(self, question: Question) -> None:
        """Raise Refusal (422) for what this policy cannot do."""
        if not question.deterministic and not self.policy.can_sample:
            reason = self.policy.metadata.get("sampling")
            raise Refusal(
                422,
                "this policy gives no sampled actions",
                '"deterministic": true',
                '"deterministic": false',
                f"leave it out ({reason})" if isinstance(reason, str) else "leave it out",
            )
        if self.reset and question.session is None:
            raise Refusal(
                422,
                "this policy has a memory, which the request does not name",
                '"session": the name that POST /v1/sessions gave',
                "none",
                'begin a session with POST /v1/sessions, name it here, and say "first": true where an episode begins',
            )
        if isinstance(question.first, list) and len(question.first) != question.count:
            raise Refusal(
                422,
                "first does not fit",
                f"true, false or {question.count} of them, one per observation",
                f"{len(question.first)}",
                "send as many as there are observations",
            )

    def begin(self, lanes: int) -> Carried:
        """The memory at the start of ``lanes`` episodes."""
        return Carried(self, lanes, self.policy.initial_memory(lanes), age=np.zeros(lanes, np.int64))

    def infer(self, question: Question, carried: Carried | None, options: Any = None) -> bytes:
        """Act, move the memory on, and encode the answer. Raises Refusal (422) where the action is not finite."""
        role = "action" if question.deterministic else "sample"
        feeds, count = dict(question.feeds), question.count
        first = question.first if isinstance(question.first, list) else [question.first] * count
        feeds.update(self.noise(question, carried, first))
        if self.reset and carried is not None:
            feeds |= carried.memory
            feeds["is_first"] = np.array(first, np.bool_)
        wanted = self.names[role] + (self.parameters if question.distribution else [])
        outputs = dict(zip(wanted, self.policy.session.run(wanted, feeds, options), strict=True))
        for name in self.floating:
            if name in outputs and not np.isfinite(outputs[name]).all():
                raise Refusal(
                    422,
                    "the action is not finite",
                    "an observation of a magnitude that the policy was trained on",
                    "numbers so large that the network overflows",
                    "send observations in the units of the task",
                )
        if carried is not None:
            if self.reset:
                carried.memory = self.policy.next_memory(outputs)
            if self.held:
                carried.age += 1
        return self.answer(question, role, outputs)

    def noise(self, question: Question, carried: Carried | None, first: list[bool]) -> Feeds:
        """The noise of N actions; noise that is held goes on from the step before, within a session."""
        if carried is not None and self.held:
            carried.age[np.array(first, np.bool_)] = 0
        if question.deterministic:
            return self.policy.no_noise(question.count)
        generator = self.generator if question.seed is None else np.random.default_rng(question.seed)
        drawn: Feeds = self.policy.draw_noise(question.count, generator)
        if carried is not None:
            for name, hold in self.held.items():
                kept = carried.noise.get(name)
                if kept is not None:
                    again = (carried.age % hold if hold else carried.age) == 0
                    drawn[name] = np.where(again.reshape(-1, *[1] * (kept.ndim - 1)), drawn[name], kept)
                carried.noise[name] = drawn[name]
        return drawn

    def answer(self, question: Question, role: str, outputs: Feeds) -> bytes:
        """JSON: ``action`` or ``actions``, the policy's digest, and the distribution where it was asked for."""
        if role in self.plain:
            acted = outputs[self.plain[role]].tolist()
        else:
            acted = rows(self.spaces.action, self.policy.decode(outputs, role=role), question.count)
        result: dict[str, Any] = {"action": acted[0]} if question.single else {"actions": acted}
        result["policy"] = self.sha256
        if question.distribution:
            result["distribution"] = [
                {
                    "path": list(part["path"]),
                    "family": part["family"],
                    "parameters": {
                        name: (array[0] if question.single else array).tolist()
                        for name, array in part["parameters"].items()
                    },
                    "scale": part.get("scale"),
                }
                for part in self.policy.distribution(outputs)
            ]
        return msgspec.json.encode(result)


def rows(space: spaces.Space[Any], tree: Any, count: int) -> list[Any]:
    """A tree of arrays [N, ...] as N trees of numbers."""
    if isinstance(space, spaces.Dict):
        children = {key: rows(child, tree[key], count) for key, child in space.spaces.items()}
        return [{key: child[i] for key, child in children.items()} for i in range(count)]
    if isinstance(space, spaces.Tuple):
        parts = [rows(child, part, count) for child, part in zip(space.spaces, tree, strict=True)]
        return [[part[i] for part in parts] for i in range(count)]
    listed: list[Any] = np.asarray(tree).tolist()
    return listed
