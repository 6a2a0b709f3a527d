"""Two lanes of random play that survive every fault: it is noted with its place, and the lane goes on if it can.

What was done and what came of it is kept as digests, so that other instances can be asked to do it again.
"""

from __future__ import annotations

import copy
import hashlib
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pistar.doctor import outcomes
from pistar.doctor.findings import Diagnosis, Place
from pistar.envs.layout import Layout
from pistar.seeding import derive, episode_seed
from pistar.tree import map_leaves

Make = Callable[[], Any]  # a new environment
ATTEMPTS = 3  # a lane that raised starts a new episode so many times


class Stuck(Exception):
    """The lane cannot go on; why is among the findings already."""


@dataclass
class Episode:
    """What one episode was: enough to play it again and to see whether the same came of it."""

    seed: int
    start: bytes = b""  # digest of the first observation
    actions: list[Any] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)  # of (observation, reward, flags), a step at a time
    rewards: list[float] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False
    broken: bool = False  # given up after a fault

    @property
    def ended(self) -> bool:
        """Whether it came to its end."""
        return self.terminated or self.truncated


@dataclass(frozen=True)
class Actions:
    """Random actions from a stream of their own; allowed ones where an entry of the observation, ``mask``, says which."""

    space: Any  # a seeded copy of the environment's
    mask: str | None = None

    @staticmethod
    def of(environment: Any, seed: int, lane: int, mask: str | None) -> Actions:
        """Those of a lane."""
        space = copy.deepcopy(environment.action_space)
        space.seed(derive(seed, "doctor", lane) % 2**31)
        return Actions(space, mask)

    def draw(self, observation: Any) -> Any:
        """One action, as pistar's adapter gives it."""
        if self.mask is None:
            return as_given(self.space.sample())
        from pistar.envs.allowed import mask_in, sample  # imports torch

        allowed = map_leaves(lambda x: np.asarray(x) > 0, mask_in(observation, self.mask))
        return as_given(sample(self.space, allowed))


@dataclass
class Lane:
    """One environment at play."""

    number: int
    environment: Any
    random: Actions
    episodes: list[Episode] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    reset_seconds: list[float] = field(default_factory=list)
    attempts: int = 0
    previous: tuple[Any, bytes] | None = None  # the last observation, as the environment gave it, and its digest

    @property
    def place(self) -> Place:
        """Where the next call happens."""
        return Place(self.number, len(self.episodes) - 1, len(self.episodes[-1].actions))


def play(
    diagnosis: Diagnosis,
    make: Make,
    layout: Layout | None,
    lanes: int,
    steps: int,
    seed: int,
    seconds: float,
    mask: str | None = None,
) -> list[Lane]:
    """``lanes`` environments, stepped in turn with random actions until ``steps`` each or ``seconds`` in all."""
    playing = []
    for number in range(lanes):
        environment = make()
        playing.append(Lane(number, environment, Actions.of(environment, seed, number, mask)))
    going, deadline = list(playing), time.perf_counter() + seconds
    for taken in range(steps):
        if taken >= 50 and time.perf_counter() > deadline:
            break
        for lane in list(going):
            try:
                if not lane.episodes or lane.episodes[-1].ended or lane.episodes[-1].broken:
                    begin(diagnosis, lane, layout, episode_seed(seed, lane.number, len(lane.episodes)))
                advance(diagnosis, lane, layout)
            except Stuck:
                lane.attempts += 1
                if lane.attempts >= ATTEMPTS:
                    going.remove(lane)
                if lane.episodes:
                    lane.episodes[-1].broken = True
    return playing


def begin(diagnosis: Diagnosis, lane: Lane, layout: Layout | None, seed: int) -> None:
    """Start the lane's next episode; raises Stuck."""
    place = Place(lane.number, len(lane.episodes))
    started = time.perf_counter()
    try:
        outcome = lane.environment.reset(seed=seed)
    except (Exception, SystemExit) as error:
        diagnosis.fail(
            "interface", f"reset(seed={seed}) {raised(error)}", _advice_for_reset(lane, error), place, "reset"
        )
        raise Stuck from error
    lane.reset_seconds.append(time.perf_counter() - started)
    if not outcomes.check_reset(diagnosis, outcome, place):
        raise Stuck
    observation, info = outcome
    if not isinstance(info, Mapping):
        diagnosis.fail("info", f"reset gave the info {info!r:.60}, expected a dict", "return {}", place, "type")
    if layout:
        outcomes.check_observation(diagnosis, layout, observation, place)
    _check_buffer(diagnosis, lane, observation, place)
    lane.episodes.append(Episode(seed, digest(observation)))


def _advice_for_reset(lane: Lane, error: BaseException) -> str:
    try:
        lane.environment.reset(seed=1)
    except (Exception, SystemExit):
        if isinstance(error, TypeError) and "seed" in str(error):
            return "def reset(self, *, seed=None, options=None): super().reset(seed=seed)"
        return "make reset work before the first step and after every episode's end"
    return (
        "it takes small seeds only, but pistar's go up to 2**31 - 1, and Gymnasium's may be any integer from 0 on: use "
        "self.np_random, or seed % N"
    )


def advance(diagnosis: Diagnosis, lane: Lane, layout: Layout | None) -> None:
    """Take one random step; raises Stuck."""
    place, episode = lane.place, lane.episodes[-1]
    assert lane.previous is not None  # since the episode has begun
    action = lane.random.draw(lane.previous[0])
    kept = copy.deepcopy(action)
    started = time.perf_counter()
    try:
        outcome = lane.environment.step(action)
    except (Exception, SystemExit) as error:
        which = "a sample of action_space" if lane.random.mask is None else f"which {lane.random.mask!r} allows"
        advice = f"the action was {kept!r:.80}, {which}; step must take every such value{_advice_on_masks(lane)}"
        diagnosis.fail("interface", f"step {raised(error)}", advice, place, "step")
        raise Stuck from error
    lane.step_seconds.append(time.perf_counter() - started)
    if digest(action) != digest(kept):
        advice = "work on a copy: action = np.array(action)"
        diagnosis.warn("buffers", "step changes the action that it is given, in place", advice, place, "action")
    if not outcomes.check_step(diagnosis, outcome, place):
        raise Stuck
    observation, reward, terminated, truncated, _ = outcome
    if layout:
        outcomes.check_observation(diagnosis, layout, observation, place)
    _check_buffer(diagnosis, lane, observation, place)
    episode.actions.append(kept)
    episode.digests.append(digest((observation, reward, bool(terminated), bool(truncated))))
    episode.rewards.append(
        float(reward) if np.ndim(reward) == 0 and isinstance(reward, float | int | np.number | np.bool_) else np.nan
    )
    episode.terminated, episode.truncated = bool(terminated), bool(truncated)


def _advice_on_masks(lane: Lane) -> str:
    """Where nobody said so, but an observation has what may be a mask."""
    observation = lane.previous[0] if lane.previous is not None and lane.random.mask is None else None
    names = [name for name in observation if "mask" in str(name).lower()] if isinstance(observation, Mapping) else []
    return f"; if {names[0]!r} forbids some at times, look again with --mask {names[0]}" if names else ""


def _check_buffer(diagnosis: Diagnosis, lane: Lane, observation: Any, place: Place) -> None:
    if lane.previous is not None and digest(lane.previous[0]) != lane.previous[1]:
        same = lane.previous[0] is observation
        diagnosis.warn(
            "buffers",
            "the observation of the step before has changed: every step returns "
            + ("the same object" if same else "the same memory"),
            "return observation.copy(); pistar copies at once, but others who keep observations keep only the last",
            place,
            "observation",
        )
    lane.previous = (observation, digest(observation))


def as_given(sample: Any) -> Any:
    """A sample as pistar's adapter gives it: Discrete actions are ints."""
    return int(sample) if isinstance(sample, np.integer) else sample


def digest(value: Any) -> bytes:
    """Equal for values that are equal bit for bit: arrays, numbers, dicts and tuples of them."""
    found = hashlib.blake2b(digest_size=16)

    def add(part: Any) -> None:
        if isinstance(part, Mapping):
            for key in part:
                found.update(f"{key}:".encode())
                add(part[key])
        elif isinstance(part, tuple | list):
            found.update(f"{len(part)}[".encode())
            for each in part:
                add(each)
        elif isinstance(part, np.ndarray | np.generic) and not part.dtype.hasobject:
            found.update(f"{part.dtype}{part.shape}".encode() + part.tobytes())
        elif isinstance(part, str | bytes | int | float | None):
            found.update(repr(part).encode())
        else:
            found.update(type(part).__name__.encode())  # a repr may hold an address

    add(value)
    return found.digest()


def raised(error: BaseException) -> str:
    """``raised ValueError: ... (walker.py, line 12, in step)``: the innermost frame of the environment."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""
    return f"raised {type(error).__name__}: {str(error) or 'no message'}{where}"
