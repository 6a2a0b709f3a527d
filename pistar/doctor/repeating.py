"""Seeds: whether an episode is a function of its seed and its actions, and of nothing else.

The episodes of the two lanes are played again in instances of their own. If they part, a second solo play tells why:
two solo plays that agree mean that the lanes share state; two that do not, that some randomness is not seeded.
"""

from __future__ import annotations

import copy
from typing import Any

from pistar.doctor.findings import Diagnosis, Place
from pistar.doctor.playing import Actions, Episode, Lane, Make, digest

SEEDS = (11, 12, 13, 14, 15)
STEPS = 150  # of a lane that are played again
WATCHED = 25  # calls after each of which the global random streams are looked at
BOUNDARY = "--gymnasium.restoring boundary"


def check_seeds(diagnosis: Diagnosis, make: Make) -> None:
    """Is the start of an episode a function of reset's seed?"""
    environment, other = make(), make()
    try:
        starts = [start(environment, seed) for seed in SEEDS]
        again = [start(environment, seed) for seed in SEEDS]
        elsewhere = [start(other, seed) for seed in SEEDS]
        for which, others in (("in the same instance", again), ("in another instance", elsewhere)):
            seed = next((seed for seed, one, two in zip(SEEDS, starts, others, strict=True) if one != two), None)
            if seed is not None:
                diagnosis.fail(
                    "seeding",
                    f"reset(seed={seed}) gives another observation the second time, {which}",
                    "call super().reset(seed=seed) first and draw from self.np_random only; without that no evaluation "
                    f"can be repeated. Where it cannot be helped (hardware): {BOUNDARY}",
                    Place(0, 0),
                )
                return
        varied = "starts vary with it" if len(set(starts)) > 1 else "every episode starts in the same observation"
        diagnosis.ok("seeding", f"reset(seed) gives equal observations for equal seeds; {varied}")
    finally:
        quietly_close(environment, other)


def start(environment: Any, seed: int) -> bytes:
    """The digest of the observation that ``reset(seed)`` gives."""
    return digest(environment.reset(seed=seed)[0])


def check_global_randomness(diagnosis: Diagnosis, make: Make, seed: int, mask: str | None = None) -> None:
    """Does it draw from, or reseed, the random streams that belong to the whole process?"""
    # Imported here: it imports torch.
    from pistar.testing.environments.examination import global_streams, reseeded_streams

    with reseeded_streams(None):
        before = global_streams()
        environment = make()
        try:
            random, observation = Actions.of(environment, seed, 0, mask), None
            calls, over, step = ["the constructor"], True, -1
            for _ in range(WATCHED):
                now = global_streams()
                moved = [name for name in now if now[name] != before.get(name, now[name])]
                if moved:
                    _blame(diagnosis, moved[0], calls[-1], step)
                    return
                if over:
                    observation, _ = environment.reset(seed=seed)
                    calls.append("reset")
                    over, step = False, -1
                else:
                    observation, _, terminated, truncated, _ = environment.step(random.draw(observation))
                    calls.append("step")
                    over, step = bool(terminated or truncated), step + 1
            diagnosis.ok("randomness", "the global streams of random, numpy and torch are left alone")
        finally:
            quietly_close(environment)


def _blame(diagnosis: Diagnosis, stream: str, call: str, step: int) -> None:
    name = {"numpy": "numpy.random"}.get(stream, stream)
    diagnosis.fail(
        "randomness",
        f"{call} draws from (or reseeds) the global stream of {name}, which all lanes and the whole program share",
        "draw from self.np_random, which super().reset(seed=seed) seeds; else the lanes disturb each other and no run "
        "can be repeated",
        Place(0, 0, step if call == "step" else None),
    )


def check_restoring(diagnosis: Diagnosis, make: Make, lanes: list[Lane]) -> None:
    """Can an interrupted run be resumed by playing each lane's running episode again?"""
    played = [lane for lane in lanes if lane.episodes and lane.episodes[0].actions]
    if not played:
        return
    for lane in played:
        episodes = _first_steps(lane.episodes)
        alone = play_again(make, episodes)
        parted = first_difference(lane, episodes, alone)
        if parted is not None:
            shared = play_again(make, episodes) == alone
            _not_replayable(diagnosis, parted, shared)
            return
        # A lane is restored in a fresh instance that has not played the episodes before.
        last = episodes[-1:]
        if len(episodes) > 1 and play_again(make, last) != alone[-1:]:
            _leaking(diagnosis, Place(lane.number, len(episodes) - 1))
            return
    diagnosis.ok("restoring", "replayable: equal seeds and actions give equal bits, so runs can be resumed at any step")


def _first_steps(episodes: list[Episode]) -> list[Episode]:
    chosen: list[Episode] = []
    steps = 0
    for episode in episodes:
        if episode.broken or (steps >= STEPS and len(chosen) > 1):
            break
        chosen.append(episode)
        steps += len(episode.actions)
    return chosen


def play_again(make: Make, episodes: list[Episode]) -> list[list[bytes]]:
    """The digests of each episode's start and steps, in a fresh instance; shorter where it ended earlier or raised."""
    environment, found = make(), []
    try:
        for episode in episodes:
            digests: list[bytes] = []
            found.append(digests)
            try:
                digests.append(digest(environment.reset(seed=episode.seed)[0]))
                for action in episode.actions[:STEPS]:
                    observation, reward, terminated, truncated, _ = environment.step(copy.deepcopy(action))
                    digests.append(digest((observation, reward, bool(terminated), bool(truncated))))
                    if terminated or truncated:
                        break
            except (Exception, SystemExit):
                break
    finally:
        quietly_close(environment)
    return found


def first_difference(lane: Lane, episodes: list[Episode], again: list[list[bytes]]) -> Place | None:
    """Where a lane's play and its repetition part."""
    for number, (episode, digests) in enumerate(zip(episodes, again, strict=False)):
        expected = [episode.start, *episode.digests[:STEPS]]
        for index, one in enumerate(expected):
            if index >= len(digests) or digests[index] != one:
                return Place(lane.number, number, index - 1 if index else None)
    return None


def _not_replayable(diagnosis: Diagnosis, place: Place, shared: bool) -> None:
    if shared:
        diagnosis.fail(
            "restoring",
            "the lane goes another way alone than beside a second instance, though alone it repeats: they share state",
            "keep all state in self, none in the class, the module or a file",
            place,
        )
        return
    diagnosis.warn(
        "restoring",
        "not replayable: equal seeds and actions lead elsewhere; some randomness, or the clock, is not from the seed",
        f"seed it (self.np_random), or train with {BOUNDARY}: then a run is resumed from its last checkpoint, "
        "where all episodes begin anew",
        place,
    )


def _leaking(diagnosis: Diagnosis, place: Place) -> None:
    diagnosis.warn(
        "restoring",
        "not replayable: the episode goes another way in an instance that has not played those before it",
        f"let reset forget everything, or train with {BOUNDARY}",
        place,
    )


def quietly_close(*environments: Any) -> None:
    """Close, whatever that raises; ``check_closing`` reports on it."""
    for environment in environments:
        try:
            environment.close()
        except (Exception, SystemExit):
            continue
