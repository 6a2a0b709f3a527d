"""PettingZoo worlds as lanes, beside the raw library driven by hand with the same seeds and actions."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("pettingzoo", reason="needs pip install 'pistar[multi]'")
from agents import Mixed, MixedNim, Nim, Storm

from pistar import experiment
from pistar.envs.allowed import mask_in, random_action
from pistar.envs.environment import Environment, Step
from pistar.envs.pettingzoo import PettingZoo
from pistar.envs.wrappers import ActionDelay, TimeLimit
from pistar.errors import EnvironmentFailure, UnknownName, UsageError
from pistar.seeding import episode_seed
from pistar.testing import check_environment

SEED = 5


def played(environment: Environment, steps: int) -> list[tuple[Any, Any, Step]]:
    """(observation, action, outcome) of random play that keeps to the masks, as copies."""
    environment.spaces.action.seed(0)
    entries, observation = [], copied(environment.reset(SEED))
    for _ in range(steps):
        mask = mask_in(observation, environment.mask)
        action = random_action(environment.spaces.action, environment.lanes, environment.device, mask)
        step = environment.step(action)
        final = None if step.final_observation is None else copied(step.final_observation)
        valid = torch.ones(environment.lanes, dtype=torch.bool) if step.valid is None else step.valid.clone()
        kept = Step(None, step.reward.clone(), step.terminated.clone(), step.truncated.clone(), final, valid, step.info)
        entries.append((observation, action, kept))
        observation = copied(step.observation)
    return entries


def copied(tree: Any) -> Any:
    return {name: leaf.clone() for name, leaf in tree.items()} if isinstance(tree, dict) else tree.clone()


@pytest.mark.parametrize("make", [Storm, "mpe2.simple_spread_v3", "rps_v2"])
def test_agents_that_act_together_do_what_they_do_in_the_raw_library(make: Any) -> None:
    environment = PettingZoo(make, 6 if make != "rps_v2" else 4)
    agents, raw = environment.agents, PettingZoo(make, environment.agents)._worlds[0].environment
    assert agents > 1
    assert not environment.turn_based
    entries, ended = played(environment, 60), 0
    for world in (0, 1):
        seen, _ = raw.reset(seed=episode_seed(SEED, world, 0))
        episode, alive = 0, list(raw.possible_agents)
        for t, (observation, action, step) in enumerate(entries):
            lanes = {agent: world * agents + i for i, agent in enumerate(raw.possible_agents)}
            for agent, lane in lanes.items():
                assert bool(step.valid[lane]) == (agent in alive), f"step {t}"
                if agent in alive:
                    assert np.array_equal(observation[lane].numpy(), np.float32(seen[agent])), f"step {t}"
            seen, reward, terminated, truncated, _ = raw.step({a: int(action[lanes[a]]) for a in alive})
            for agent in alive:
                lane = lanes[agent]
                assert step.reward[lane] == np.float32(reward[agent])
                assert (bool(step.terminated[lane]), bool(step.truncated[lane])) == (
                    terminated[agent],
                    truncated[agent],
                )
                if step.ended[lane]:
                    ended += 1
                    assert np.array_equal(step.final_observation[lane].numpy(), np.float32(seen[agent]))
            assert not (step.ended | (step.reward != 0))[[lanes[a] for a in lanes if a not in alive]].any()
            alive = list(raw.agents)
            if not alive:
                episode += 1
                seen, _ = raw.reset(seed=episode_seed(SEED, world, episode))
                alive = list(raw.agents)
    assert ended >= agents


@pytest.mark.parametrize("make", [Nim, "tictactoe_v3", "connect_four_v3"])
def test_in_turn_a_lane_earns_what_last_says_at_its_own_next_turn_and_all_of_it(make: Any) -> None:
    environment = PettingZoo(make, 3 if make is Nim else 2)
    raw = PettingZoo(make, environment.agents)._worlds[0].environment
    assert environment.turn_based
    number = {agent: i for i, agent in enumerate(raw.possible_agents)}
    entries = iter(played(environment, 120))
    earned: dict[int, float] = defaultdict(float)
    for episode in range(4):
        raw.reset(seed=episode_seed(SEED, 0, episode))
        told: dict[int, float] = defaultdict(float)  # by the raw library, at an agent's own turns
        mine: dict[int, float] = defaultdict(float)
        entry = None
        for agent in raw.agent_iter():
            lane = number[agent]
            observation, reward, terminated, truncated, _ = raw.last()
            told[lane] += reward
            if terminated or truncated:
                assert entry is not None
                assert bool(entry[2].terminated[lane]) == terminated
                assert (
                    entry[2].final_observation["observation"][lane].tolist()
                    == np.float64(observation["observation"]).tolist()
                )
                raw.step(None)
                continue
            entry = next(entries)
            seen, action, step = entry
            assert step.valid.tolist() == [i == lane for i in range(environment.lanes)]
            assert np.array_equal(seen["observation"][lane].numpy(), observation["observation"])
            assert seen["action_mask"][lane].tolist() == observation["action_mask"].tolist()
            for i in range(environment.lanes):
                mine[i] += float(step.reward[i])
            raw.step(int(action[lane]))
        assert bool(entry[2].ended.any())
        for lane, total in told.items():
            assert mine[lane] == pytest.approx(total, abs=1e-5), f"episode {episode}"
            earned[lane] += abs(total)
    assert any(earned.values())


@pytest.mark.parametrize(
    "make",
    [Storm, Nim, lambda: Storm(masked=True), lambda: Nim(2), Mixed, lambda: Mixed(masked=True), MixedNim],
    ids=["together", "in turn", "masked", "two", "groups", "masked groups", "groups in turn"],
)
def test_the_contract_holds(make: Any) -> None:
    agents = PettingZoo(make, 6).agents
    check_environment(lambda lanes: PettingZoo(make, lanes), lanes=2 * agents, steps=24)


def test_the_contract_of_worlds_that_cannot_be_replayed() -> None:
    check_environment(lambda lanes: PettingZoo(Storm, lanes, restoring="boundary"), lanes=6, steps=20)


class Ghosts(PettingZoo):
    """Lets the dead go on acting."""

    def step(self, action: Any) -> Step:
        step = super().step(action)
        step.valid = None
        return step


def test_the_contract_notices_agents_that_act_after_their_end() -> None:
    with pytest.raises(AssertionError, match="an agent that had ended acts"):
        check_environment(lambda lanes: Ghosts(Storm, lanes), lanes=6, steps=40)


class Forgetful(Storm):
    """Draws from the process's own clockwork, not from its seed."""

    instances = 0

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        Forgetful.instances += 1
        return super().reset(Forgetful.instances, options)


def test_a_world_that_is_not_deterministic_is_not_restored_silently() -> None:
    environment = PettingZoo(Forgetful, 3)
    played(environment, 5)
    with pytest.raises(EnvironmentFailure, match="not deterministic under its seed"):
        PettingZoo(Forgetful, 3).restore(environment.save())


def test_a_mask_in_the_info_becomes_an_entry() -> None:
    environment = PettingZoo(lambda: Storm(masked=True), 3)
    for observation, action, _ in played(environment, 30):
        even = observation["observation"][:, 1] % 2 == 0
        assert torch.equal(observation["action_mask"][:, 1].bool(), even)
        assert not action[~even].any()


def test_cuts_take_whole_worlds() -> None:
    environment = PettingZoo(Storm, 6)
    environment.reset(0)
    with pytest.raises(UsageError, match="all lanes of a world"):
        environment.cut(torch.tensor([True, False, False, False, False, False]))


def test_what_cannot_be_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="a multiple of 3, such as 3"):
        PettingZoo(Storm, 4)
    with pytest.raises(UnknownName, match="did you mean 'pursuit_v5'"):
        PettingZoo("pursuit_v4", 8)
    with pytest.raises(UsageError, match="act in turn"):
        ActionDelay(PettingZoo(Nim, 3), 1)
    with pytest.raises(UsageError, match="max_cycles"):
        TimeLimit(PettingZoo(Storm, 3), 5)
    with pytest.raises(UsageError, match="api is 'turns'"):
        PettingZoo(Storm, 3, api="turns")


@pytest.mark.parametrize("name", ["tictactoe_v3", "mpe2.simple_spread_v3", "agents:Storm", "classic/tictactoe-v3"])
def test_names_lead_to_worlds(name: str) -> None:
    assert experiment.find_task(f"pettingzoo:{name}") == {"kind": "pettingzoo", "id": name}
    task = experiment.TASKS.get("pettingzoo")(id=name)
    assert task.recipe("ppo")["training"]["lanes"] % task.agents == 0
    assert task.actions == "discrete"


def test_the_same_world_together_or_in_turn() -> None:
    assert not PettingZoo("rps_v2", 2).turn_based
    assert PettingZoo("rps_v2", 2, api="turns").turn_based
