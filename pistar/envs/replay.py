"""Saving lanes and restoring them, in the two tiers that any Gymnasium environment can have.

``replay``: the state holds each lane's episode number and the actions since its start. Restoring seeds that episode
again, plays the actions and requires the stored observation bit for bit. ``boundary``: the state holds episode numbers
only, and is asked for between episodes. A state does not depend on how the lanes are split over processes: ``split``
and ``merge`` cut and join it along the lanes.

What this leaves out: environments that can save themselves (tier ``state``); their adapters do that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pistar.envs import failures
from pistar.envs.lanes import Lanes, Plan
from pistar.errors import EnvironmentFailure, UsageError

State = dict[str, Any]


def save(lanes: Lanes) -> State:
    """What ``restore`` needs; raises UsageError in tier ``boundary`` where an episode is running."""
    if lanes.seed is None:
        raise UsageError("save was called before reset; call reset(seed) first")
    state: State = {
        "restoring": lanes.plan.restoring,
        "seed": lanes.seed,
        "steps": lanes.steps,
        "episode": np.array(lanes.episode, np.int64),
    }
    if lanes.log is None:
        if any(lanes.elapsed):
            raise UsageError(
                f"{lanes.name} restores at episode boundaries only (restoring = 'boundary'), but lane "
                f"{lanes.offset + int(np.argmax(np.array(lanes.elapsed) > 0))} is within an episode; call save right "
                "after cut(all lanes)"
            )
        return state
    fields = lanes.observations.fields
    return state | {
        "elapsed": np.array(lanes.elapsed, np.int64),
        "actions": lanes.log.packed(),
        "observation": {field.key: array.copy() for field, array in zip(fields, lanes.batch.observation, strict=True)},
    }


def restore(lanes: Lanes, state: State) -> None:
    """Continue from ``save``'s result; raises EnvironmentFailure where replaying leads elsewhere."""
    check(state, lanes.plan)
    lanes.seed, lanes.steps = int(state["seed"]), int(state["steps"])
    lanes.episode = np.asarray(state["episode"]).tolist()
    lanes.info = {}
    lanes.batch.terminated.fill(False)
    lanes.batch.truncated.fill(False)
    lanes.begin(range(lanes.plan.lanes))
    if lanes.log is None:
        return
    lanes.elapsed = np.asarray(state["elapsed"]).tolist()
    lanes.log.unpack(state["actions"], lanes.elapsed)
    for lane in range(lanes.plan.lanes):
        difference = _replay(lanes, lane) or _difference(lanes, lane, state["observation"])
        if difference:
            raise not_deterministic(lanes, lane, difference)
    lanes.progress[0] = -1


def check(state: State, plan: Plan) -> None:
    """Raise UsageError where a state cannot belong to lanes of this plan."""
    tier, lanes = state.get("restoring"), len(state.get("episode", ()))
    if tier != plan.restoring:
        raise UsageError(f"the state was saved with restoring = {tier!r}, but this environment has {plan.restoring!r}")
    if lanes != plan.lanes:
        raise UsageError(f"the state holds {lanes} lanes, but this environment has {plan.lanes}")


def not_deterministic(lanes: Lanes, lane: int, difference: str) -> EnvironmentFailure:
    """Replaying led elsewhere: say so, and what to configure instead."""
    return failures.broke_contract(
        lanes.name,
        f"the environment is not deterministic under its seed: replaying the {lanes.elapsed[lane]} actions since the "
        f"start of episode {lanes.episode[lane]}, {difference}. It cannot be restored by replay; configure "
        'restoring = "boundary"',
        lane + lanes.offset,
        lanes.steps,
    )


def split(state: State, slices: Sequence[slice]) -> list[State]:
    """The states of consecutive slices of the lanes."""
    parts = [{**state, "episode": np.asarray(state["episode"])[lanes]} for lanes in slices]
    if state["restoring"] == "boundary":
        return parts
    offsets = np.cumsum([0, *np.asarray(state["elapsed"])])
    for part, lanes in zip(parts, slices, strict=True):
        actions = slice(int(offsets[lanes.start]), int(offsets[lanes.stop]))
        part["elapsed"] = np.asarray(state["elapsed"])[lanes]
        part["actions"] = {key: np.asarray(array)[actions] for key, array in state["actions"].items()}
        part["observation"] = {key: np.asarray(array)[lanes] for key, array in state["observation"].items()}
    return parts


def merge(parts: Sequence[State]) -> State:
    """The inverse of ``split``."""

    def join(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {key: join([value[key] for value in values]) for key in values[0]}
        return np.concatenate(values) if isinstance(values[0], np.ndarray) else values[0]

    merged: State = join(list(parts))
    return merged


def replays(plan: Plan, steps: int = 50, seed: int = 0) -> bool:
    """Whether a fresh instance, given the seeds and actions of another, goes on exactly as that one does.

    Random actions; the first instance is restored in the second after a third of the steps in episode 0 and, with a cut
    between, a third in episode 1, since a restored episode is seldom its instance's first.
    """
    first, second = Lanes(plan), Lanes(plan)
    try:
        space = first.actions
        sampler = first.environments[0].action_space
        sampler.seed(seed)

        def action() -> list[Any]:
            samples = [space.flatten(sampler.sample()) for _ in range(plan.lanes)]
            return [np.stack(parts).astype(field.dtype) for field, *parts in zip(space.fields, *samples, strict=True)]

        first.reset(seed)
        third = max(1, steps // 3)
        for _ in range(third):
            first.step(action())
        first.cut(np.ones(plan.lanes, bool))
        for _ in range(third):
            first.step(action())
        try:
            restore(second, save(first))
        except EnvironmentFailure:
            return False
        for _ in range(max(1, steps - 2 * third)):
            actions = action()
            first.step([array.copy() for array in actions])
            second.step(actions)
            if _outcome(first) != _outcome(second):
                return False
        return True
    finally:
        first.close()
        second.close()


def _replay(lanes: Lanes, lane: int) -> str | None:
    """Play the lane's logged actions; says what went otherwise than the first time, if anything did."""
    assert lanes.log is not None
    for index, action in enumerate(lanes.actions.rows(lanes.log.of_lane(lane))):
        observation, _, terminated, truncated, _ = lanes.call_step(lane, action)
        if terminated or truncated:
            return f"the episode ended at action {index}, which it did not do before"
        lanes.write("step", observation, lanes.batch.observation, lane)
    return None


def _difference(lanes: Lanes, lane: int, stored: dict[str, Any]) -> str | None:
    for field, array in zip(lanes.observations.fields, lanes.batch.observation, strict=True):
        before, now = np.asarray(stored[field.key])[lane], array[lane]
        if before.tobytes() != now.tobytes():
            entry = np.flatnonzero(np.ravel(before) != np.ravel(now))[:1].tolist()
            where = f"{field.label} (flat entry {entry[0]})" if entry else field.label
            values = (np.ravel(before)[entry], np.ravel(now)[entry])
            return f"{where} is {values[1]}, but was {values[0]}"
    return None


def _outcome(lanes: Lanes) -> list[bytes]:
    batch = lanes.batch
    return [array.tobytes() for array in (*batch.observation, batch.reward, batch.terminated, batch.truncated)]
