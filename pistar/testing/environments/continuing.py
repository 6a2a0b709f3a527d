"""The rules of cutting, saving and restoring: a run that is taken apart and put together again is the same run."""

from __future__ import annotations

import torch
from torch import Tensor

from pistar.envs.environment import Environment, State
from pistar.testing.environments.examination import Examination, restarts, starts_met
from pistar.testing.environments.recording import (
    Entry,
    copied,
    difference,
    first_difference,
    go_on,
    merged,
    row,
)
from pistar.testing.environments.rules import check_observation, check_state, violate
from pistar.tree import Tree


def check_cuts(it: Examination) -> None:
    """Does cut start the next episode of the chosen lanes, and leave the others alone?"""
    for steps in it.moments():
        masks = [it.everyone()]
        with it.fresh() as environment:
            if environment.cuts_single_lanes:
                masks += [it.mask(), it.mask(0), it.mask(it.lanes - 1)]
        for mask in masks:
            with it.fresh() as environment:
                _check_cut(it, environment, steps, mask)


def _check_cut(it: Examination, environment: Environment, steps: int, mask: Tensor) -> None:
    lanes = mask.nonzero().flatten().tolist()
    when = f"after {steps} steps, cut of lanes {lanes}"
    shown = copied(environment.reset(it.seed))
    before = go_on(environment, it.actions[:steps])
    shown = before[-1].observation if before else shown
    given = environment.cut(mask.to(environment.device))
    check_observation(environment, given, when)
    observed = copied(given)
    found = difference(shown, observed, ~mask)
    if found:
        violate("cut", f"{when}: another lane moved: {found}")
    after = go_on(environment, it.actions[steps:])
    if not it.turn_based and bool((mask & ~after[0].valid).any()):
        violate("cut", f"{when}: their next entry is invalid")
    if not it.independent:
        return
    if it.repeats:
        found = first_difference(it.entries[steps:], after, ~mask)
        if found:
            violate("cut", f"{when}: another lane went on differently: {found} (counted from the cut)")
    cut_from = _running_episodes(it, before)
    for lane, later, t, start in starts_met(observed, after, it.agents):
        episode = cut_from[lane] + 1 + later
        if lane in lanes and episode < len(it.starts):
            found = difference(row(it.starts[episode], lane), start)
            if found:
                violate(
                    "cut", f"{when}: {t} steps later, lane {lane} shows another start of episode {episode}: {found}"
                )


def _running_episodes(it: Examination, before: list[Entry]) -> list[int]:
    """By lane, the episode that a cut abandons: the running one, or one that ended and whose reset is still owed."""
    if it.agents > 1:
        anew = [each for each, _ in restarts(before, it.agents)]
        return [int(sum(int(each[lane]) for each in anew)) for lane in range(it.lanes)]
    ended = [int(sum(int(entry.ended[lane]) for entry in before)) for lane in range(it.lanes)]
    following = it.entries[len(before)]
    owed = before[-1].ended & ~following.valid if before else torch.zeros(it.lanes, dtype=torch.bool)
    return [count - int(owed[lane]) for lane, count in enumerate(ended)]


def check_clean_cuts(it: Examination) -> None:
    """Does an episode that a cut started forget the one before it?"""
    steps = it.moments()[1] if len(it.moments()) > 1 else 0
    if not (it.repeats and it.independent and steps):
        return
    with it.fresh() as environment:
        tier = environment.restoring
        environment.reset(it.seed)
        before = go_on(environment, it.actions[:steps])
        environment.cut(it.everyone().to(environment.device))
        after = go_on(environment, it.actions[steps:])
    running = _running_episodes(it, before)
    for ended in sorted(set(running)):
        with it.fresh() as environment:
            environment.reset(it.seed)
            for _ in range(ended + 1):
                environment.cut(it.everyone().to(environment.device))
            unplayed = go_on(environment, it.actions[steps:])
        for lane in (lane for lane, count in enumerate(running) if count == ended):
            found = _stale(unplayed, after, it.mask(lane), strict=tier == "replay")
            if found:
                violate(
                    "cut",
                    f"lane {lane}, episode {ended + 1}: equal actions lead elsewhere where {steps} steps were played "
                    f"before the cut that started it: {found} (counted from the cut)",
                )


def _stale(unplayed: list[Entry], played: list[Entry], lane: Tensor, *, strict: bool) -> str | None:
    """How one lane's two runs of an episode part; noise may part them unless ``strict``, but never their ends alone."""

    def seen(entry: Entry) -> Tree:
        return {"observation": merged(entry.ended, entry.final_observation, entry.observation), "reward": entry.reward}

    def outcome(entry: Entry) -> Tree:
        return {**seen(entry), "terminated": entry.terminated, "truncated": entry.truncated}

    for t, (one, two) in enumerate(zip(unplayed, played, strict=True)):
        if not strict and difference(seen(one), seen(two), lane):
            return None
        found = difference(outcome(one), outcome(two), lane)
        if found:
            return f"at step {t}, {found}"
        if bool((one.ended & lane).any()):
            return None
    return None


def check_restoring(it: Examination) -> None:
    """Does a fresh instance continue bit for bit from what save returned?"""
    for steps in it.moments():
        with it.fresh() as environment:
            observed = copied(environment.reset(it.seed))
            before = go_on(environment, it.actions[:steps])
            observed = before[-1].observation if before else observed
            if environment.restoring == "boundary":
                observed = copied(environment.cut(it.everyone().to(environment.device)))
            state = environment.save()
            check_state(state)
            after = go_on(environment, it.actions[steps:])
            if it.repeats and environment.restoring != "boundary":
                found = first_difference(it.entries[steps:], after)
                if found:
                    violate("save", f"save after {steps} steps changed what followed: {found} (counted from the save)")
            where = f"after {steps} steps, restored"
            _check_restored(it, environment, state, observed, after, f"{where} in the same instance, which had gone on")
        for time in ("", ", a second time"):
            with it.fresh() as environment:
                _check_restored(it, environment, state, observed, after, f"{where} in a fresh instance{time}")


def _check_restored(
    it: Examination, environment: Environment, state: State, observed: Tree, after: list[Entry], when: str
) -> None:
    given = environment.restore(state)
    check_observation(environment, given, when)
    found = difference(observed, copied(given))
    if found:
        violate("restore", f"{when}: the observation is another one: {found}")
    if it.repeats:
        found = first_difference(after, go_on(environment, it.actions[it.steps - len(after) :]))
        if found:
            violate("restore", f"{when}: the run goes on differently: {found} (counted from the save)")


def check_closing(it: Examination) -> None:
    """Can it be closed twice, used or not?"""
    for used in (False, True):
        environment = it.make(it.lanes)
        if used:
            environment.reset(it.seed)
        environment.close()
        try:
            environment.close()
        except Exception as error:
            violate("close", f"the second call raised {error!r}")


CHECKS = (check_cuts, check_clean_cuts, check_restoring, check_closing)
