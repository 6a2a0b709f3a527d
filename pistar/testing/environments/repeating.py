"""The rules that say what a run may depend on: its seed and its own actions, and nothing else."""

from __future__ import annotations

import torch

from pistar.testing.environments.examination import (
    Examination,
    global_streams,
    reseeded_streams,
    restarts,
    starts_met,
    table_of_starts,
)
from pistar.testing.environments.recording import (
    Entry,
    copied,
    difference,
    first_difference,
    go_on,
    merged,
    random_actions,
    row,
    rows,
    scribble,
)
from pistar.testing.environments.rules import check_declaration, check_observation, check_step, violate
from pistar.tree import Tree, map_leaves

CUTS = 8  # episodes after the first whose starts are compared


def check_outcomes(it: Examination) -> None:
    """Is every outcome of a run well-formed?"""
    with it.fresh() as environment:
        check_declaration(environment, it.lanes)
        it.agents, it.turn_based = environment.agents, environment.turn_based
        it.actions = random_actions(environment, it.steps, it.seed)
        before = global_streams()
        observation = environment.reset(it.seed)
        check_observation(environment, observation, "reset")
        it.first = copied(observation)
        for t, action in enumerate(it.actions):
            kept = copied(action)
            step = environment.step(action)
            check_step(environment, step, t)
            it.entries.append(Entry.of(step))
            changed = difference(kept, copied(action))
            if changed:
                violate("ownership", f"step {t} changed its own argument: {changed}")
        for name, now in global_streams().items():
            if now != before.get(name, now):
                violate("global randomness", f"reset or step moved the global random stream of {name}")


def check_valid_entries(it: Examination) -> None:
    """Do invalid entries only follow an end?"""
    if it.agents > 1:
        _check_waiting(it)
        return
    nothing = torch.zeros(it.lanes, dtype=torch.bool)
    for t, entry in enumerate(it.entries):
        ended_before = it.entries[t - 1].ended if t else nothing
        if bool((~entry.valid & ~ended_before).any()):
            violate("valid", f"step {t} has an invalid entry on a lane whose episode did not end in the step before")
        if bool((~entry.valid & entry.ended).any()):
            violate("valid", f"step {t} ends an episode in an invalid entry")
        if not bool(entry.valid.all()):
            last = it.entries[t - 1]
            found = difference(last.observation, last.final_observation, ~entry.valid)
            if found:
                violate("valid", f"before an invalid entry, at step {t - 1}, observation is not the final one: {found}")


def _check_waiting(it: Examination) -> None:
    """Do agents that have ended wait for their world, and do all others act, or one of each world in turn?"""
    waited = torch.zeros(it.lanes, dtype=torch.bool)
    for t, (entry, (_, waits)) in enumerate(zip(it.entries, restarts(it.entries, it.agents), strict=True)):
        if bool((waited & (entry.valid | entry.ended | (entry.reward != 0))).any()):
            violate(
                "valid", f"at step {t}, an agent that had ended acts, earns or ends again before its world begins anew"
            )
        if it.turn_based and bool((entry.valid.view(-1, it.agents).sum(1) != 1).any()):
            violate("valid", f"at step {t}, the number of valid entries of a turn-based world is not 1")
        if not it.turn_based and bool((~entry.valid & ~waited).any()):
            violate("valid", f"at step {t}, the entry of an agent that has not ended is invalid")
        found = difference(entry.observation, entry.final_observation, waits & entry.ended)
        if found:
            violate(
                "valid", f"an agent that ends at step {t} before its world does not show its last observation: {found}"
            )
        waited = waits


def check_repetition(it: Examination) -> None:
    """Do equal seeds and actions give equal bits, whatever the process's random streams hold?"""
    found = []
    for stream_seed in (20_011, None):
        with reseeded_streams(stream_seed), it.fresh() as environment:
            start = difference(it.first, copied(environment.reset(it.seed)))
            if start:
                rule = "seed" if stream_seed is None else "global randomness"
                violate(rule, f"reset({it.seed}) of two fresh instances differs: {start}")
            found.append(first_difference(it.entries, go_on(environment, it.actions)))
            tier = environment.restoring
    if found[0] and not found[1]:
        violate("global randomness", f"with random, numpy.random and torch seeded otherwise, {found[0]}")
    it.repeats = not any(found)
    if not it.repeats and tier != "boundary":
        violate("determinism", f"two fresh instances with equal seeds and actions part {found[1]} (tier {tier!r})")


def check_reset(it: Examination) -> None:
    """Does reset forget all that went before?"""
    with it.fresh() as environment:
        environment.reset(it.seed + 1)
        go_on(environment, it.actions[: it.steps // 2])
        found = difference(it.first, copied(environment.reset(it.seed)))
        if not found and it.repeats:
            found = first_difference(it.entries, go_on(environment, it.actions))
        if found:
            violate("reset", f"reset({it.seed}) of a used instance differs from that of a fresh one: {found}")


def check_seeds(it: Examination) -> None:
    """Are starts a function of seed, lane and episode, and do they vary with each if they vary at all?"""
    met = max((episode for _, episode, _, _ in starts_met(it.first, it.entries, it.agents)), default=0)
    with it.fresh() as environment:
        it.starts = table_of_starts(environment, it.seed, max(CUTS, met) + 1)
        again = table_of_starts(environment, it.seed, CUTS + 1)
        others = [table_of_starts(environment, it.seed + offset, CUTS + 1) for offset in (1, 2)]
    for episode, (one, two) in enumerate(zip(it.starts, again, strict=False)):
        found = difference(one, two)
        if found:
            violate("seed", f"episode {episode} starts differently under the same seed: {found}")
    _check_variety(it, [again, *others])
    if it.independent:
        with it.fresh(it.lanes + it.agents) as environment:
            wider = table_of_starts(environment, it.seed, 3)
        for episode, start in enumerate(wider):
            known = torch.arange(it.lanes + it.agents) < it.lanes
            # Vectorised arithmetic may round the same number differently at another position of a batch.
            found = difference(it.starts[episode], rows(start, known), tolerance=1e-5)
            if found:
                violate("seed", f"episode {episode} starts differently with one more lane: {found}")


def _check_variety(it: Examination, tables: list[list[Tree]]) -> None:
    def differ(one: Tree, two: Tree) -> bool:
        return difference(one, two) is not None

    starts = [start for table in tables for start in table]
    by_seed = any(differ(one, two) for other in tables[1:] for one, two in zip(tables[0], other, strict=True))
    by_episode = any(differ(table[0], later) for table in tables for later in table)
    by_lane = any(differ(start, map_leaves(lambda leaf: leaf.roll(it.agents, 0), start)) for start in starts)
    if by_episode and not by_seed:
        violate("seed", "starts vary from episode to episode, but are the same whatever the seed of reset")
    if by_seed and not by_episode:
        violate("seed", "starts vary with the seed of reset, but all episodes of a lane start alike")
    if by_seed and not by_lane and it.lanes > it.agents and it.independent:
        violate("seed", "starts vary with the seed of reset, but all lanes start alike")


def check_episode_starts(it: Examination) -> None:
    """Are the starts met while playing those that cuts alone reach, for two sets of actions?"""
    if not it.independent:
        return
    with it.fresh() as environment:
        environment.reset(it.seed)
        others = random_actions(environment, it.steps, it.seed, other=range(it.lanes))
        runs = [it.entries, go_on(environment, others)]
    for entries in runs:
        for lane, episode, t, start in starts_met(it.first, entries, it.agents):
            found = difference(row(it.starts[episode], lane), start) if episode < len(it.starts) else None
            if found:
                violate(
                    "episode starts",
                    f"episode {episode} of lane {lane} starts otherwise when it is reached by playing (step {t}) than "
                    f"when it is reached by cuts: {found}",
                )


def check_lanes(it: Examination) -> None:
    """Does what one lane does stay without effect on the others?"""
    if not (it.repeats and it.independent and it.lanes > it.agents):
        return
    for lane in (0, it.lanes - 1):
        with it.fresh() as environment:
            environment.reset(it.seed)
            entries = go_on(environment, random_actions(environment, it.steps, it.seed, other=[lane]))
        found = first_difference(it.entries, entries, ~it.mask(lane))
        if found:
            violate("lanes", f"other actions on lane {lane} alone changed another lane: {found}")


def check_instances(it: Examination) -> None:
    """Does what another instance does stay without effect?"""
    if not it.repeats:
        return
    with it.fresh() as environment, it.fresh() as neighbour:
        environment.reset(it.seed)
        neighbour.reset(it.seed + 1)
        for t, action in enumerate(it.actions):
            found = first_difference(it.entries[t : t + 1], go_on(environment, [action]))
            if found:
                violate("instances", f"after {t} steps of a second instance in between, {found}")
            go_on(neighbour, [it.actions[-1 - t]])


def check_ownership(it: Examination) -> None:
    """Does it survive a consumer that overwrites each outcome before the next step and reuses its action buffer?"""
    if not it.repeats:
        return
    careful = _episodes_with_everything(it, careless=False)
    try:
        careless = _episodes_with_everything(it, careless=True)
    except Exception as error:
        violate("ownership", f"after writes to returned tensors, and to the action after step, it raised {error!r}")
    for call in careful:
        found = first_difference(careful[call], careless[call])
        if found:
            violate("ownership", f"writes to returned tensors, or to the action after step, changed {call}: {found}")


def _episodes_with_everything(it: Examination, *, careless: bool) -> dict[str, list[Tree]]:
    """Every call of the contract once; ``careless`` overwrites each result that a step follows."""

    def taken(observation: Tree) -> Tree:
        kept = copied(observation)
        if careless:
            scribble(observation)
        return kept

    half = it.steps // 2
    outcome: dict[str, list[Tree]] = {}
    with it.fresh() as environment, it.fresh() as heir:
        everyone = it.everyone().to(environment.device)
        outcome["reset"] = [taken(environment.reset(it.seed))]
        outcome["step"] = go_on(environment, it.actions[:half], careless=careless)
        if environment.cuts_single_lanes and environment.restoring != "boundary":
            everyone[-it.agents :] = False
        observation = environment.cut(everyone)
        outcome["cut"] = [copied(observation) if environment.restoring == "boundary" else taken(observation)]
        if environment.restoring != "boundary":
            outcome["step after cut"] = go_on(environment, it.actions[half:], careless=careless)
        state = environment.save()
        outcome["restore"] = [taken(heir.restore(state))]
        outcome["step after restore"] = go_on(heir, it.actions[:half], careless=careless)
    return outcome


def check_ignored_actions(it: Examination) -> None:
    """Is the action of an invalid entry ignored?"""
    if not it.repeats or all(bool(entry.valid.all()) for entry in it.entries):
        return
    with it.fresh() as environment:
        others = random_actions(environment, it.steps, it.seed, other=range(it.lanes))
        environment.reset(it.seed)
        actions = [merged(e.valid, mine, other) for e, mine, other in zip(it.entries, it.actions, others, strict=True)]
        found = first_difference(it.entries, go_on(environment, actions))
    if found:
        violate("valid", f"other actions in invalid entries alone changed the run: {found}")


CHECKS = (
    check_outcomes,
    check_valid_entries,
    check_repetition,
    check_reset,
    check_seeds,
    check_episode_starts,
    check_lanes,
    check_instances,
    check_ownership,
    check_ignored_actions,
)
