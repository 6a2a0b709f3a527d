"""Vector environments: the same transitions however ends are handled, and faults that name their place.

`Belt` is a vector environment that handles ends in any of Gymnasium's three ways and is as awkward as they allow: a
reward and an `info` in ignored entries, masks in `info`, nested observations, ends of several lanes at once.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from pistar.collector import Collector
from pistar.envs.gym_lanes import GymnasiumLanes
from pistar.envs.gym_vector import GymnasiumVector, spaces_of
from pistar.errors import EnvironmentFailure, MissingExtra, UnknownName, UsageError
from pistar.normalization import RewardScale
from pistar.policies.mlp import MLP
from pistar.seeding import world_seed
from pistar.tasks.gymnasium import Gymnasium
from pistar.tasks.task import Execution
from pistar.testing import check_environment

MODES = list(AutoresetMode)
LANES = 3
Transition = tuple[Any, ...]  # position, tick, action, reward, terminated, truncated, final position, info scalars


def start(seed: int, lane: int, episode: int) -> float:
    return (31 * seed + 7 * lane + 3 * episode) % 17 / 16 - 0.5


def advance(position: float, tick: int, lane: int, action: int) -> tuple[float, float, bool, bool]:
    """Position, reward, terminated, truncated; at times both flags are set, and lanes 0 and 1 are cut together."""
    position += 0.75 * (action - 1) + 0.125 * lane
    return position, position - tick, abs(position) > 2, tick + 1 >= 6 + lane // 2


class Belt(VectorEnv[Any, Any, Any]):
    """Lanes pushed along a line until they fall off or their time is up."""

    def __init__(
        self,
        num_envs: int = LANES,
        mode: AutoresetMode | None = AutoresetMode.NEXT_STEP,
        batched_final: bool = False,
        alter: Callable[[list[Any]], Any] | None = None,  # changes what `step` returns
    ) -> None:
        self.num_envs, self.mode, self.batched_final, self.alter = num_envs, mode, batched_final, alter
        self.metadata = {} if mode is None else {"autoreset_mode": mode}
        self.single_observation_space = spaces.Dict(
            {"position": spaces.Box(-9, 9, (1,), np.float64), "tick": spaces.Discrete(100)}
        )
        self.single_action_space = spaces.Discrete(3)
        self.position, self.tick, self.episode = np.zeros(num_envs), np.zeros(num_envs, int), np.zeros(num_envs, int)
        self.owed = np.zeros(num_envs, bool)

    def observe(self) -> dict[str, Any]:
        return {"position": self.position[:, None].copy(), "tick": self.tick.copy()}

    def begin(self, lane: int) -> None:
        self.position[lane], self.tick[lane] = start(self.seed, lane, self.episode[lane]), 0
        self.episode[lane] += 1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        chosen = np.ones(self.num_envs, bool) if options is None else options.get("reset_mask", np.ones(1, bool))
        if seed is not None:
            self.seed = seed
            self.episode[:] = 0
        self.owed &= ~chosen
        for lane in np.flatnonzero(chosen | np.zeros(self.num_envs, bool)):
            self.begin(lane)
        observation = self.observe()
        observation["position"][~chosen & np.ones(self.num_envs, bool)] = np.nan  # rows that were not asked for
        return observation, {"position": np.full(self.num_envs, -1.0)}

    def step(self, actions: Any) -> Any:
        reward, info = np.full(self.num_envs, 99.0), self.info()
        terminated, truncated = np.zeros((2, self.num_envs), bool)
        for lane in range(self.num_envs):
            if self.owed[lane]:
                self.begin(lane)
                continue
            self.position[lane], reward[lane], terminated[lane], truncated[lane] = advance(
                self.position[lane], self.tick[lane], lane, actions[lane]
            )
            self.tick[lane] += 1
            self.report(info, lane, bool(terminated[lane] or truncated[lane]))
        ended = terminated | truncated
        self.owed = ended & (self.mode is AutoresetMode.NEXT_STEP)
        if self.mode is AutoresetMode.SAME_STEP and ended.any():
            info = self.begin_at_once(info, ended)
        outcome = [self.observe(), reward, terminated, truncated, info]
        return tuple(outcome) if self.alter is None else self.alter(outcome)

    def begin_at_once(self, info: dict[str, Any], ended: Any) -> dict[str, Any]:
        last = self.observe()
        rows = [
            {key: values[lane] for key, values in last.items()} if ended[lane] else None for lane in range(len(ended))
        ]
        final = last if self.batched_final else np.array(rows, object)
        for lane in np.flatnonzero(ended):
            self.begin(lane)
        after = {key: np.where(ended, -1.0, values) for key, values in info.items() if key == "position"}
        kept = {key: info[key] for key in ("power", "_power")}
        return {**after, **kept, "final_obs": final, "_final_obs": ended, "final_info": info, "_final_info": ended}

    def info(self) -> dict[str, Any]:
        """Without mask, with mask, and nested with masks at both levels; -1 is never to be seen."""
        masked = {name: np.full(self.num_envs, -1.0) for name in ("position", "fallen")}
        masked["_fallen"] = np.zeros(self.num_envs, bool)
        power = {"x": np.full(self.num_envs, -1.0), "_x": np.zeros(self.num_envs, bool), "unit": "W"}
        return masked | {"power": power, "_power": np.ones(self.num_envs, bool), "note": "none"}

    def report(self, info: dict[str, Any], lane: int, ended: bool) -> None:
        info["position"][lane] = self.position[lane]
        if ended:
            info["fallen"][lane], info["_fallen"][lane] = abs(self.position[lane]) > 2, True
        if self.tick[lane] % 2:
            info["power"]["x"][lane], info["power"]["_x"][lane] = self.tick[lane] ** 2, True


def action_of(lane: int, index: int) -> int:
    return (5 * lane + index * index // 3 + index // 7) % 3


def expected(seed: int, lane: int, actions: Callable[[int], int], count: int) -> Iterator[Transition]:
    """The lane's first transitions, simulated alone."""
    episode, tick, position = 0, 0, start(seed, lane, 0)
    for index in range(count):
        shown, action = (np.float32(position), tick), actions(index)
        position, reward, terminated, truncated = advance(position, tick, lane, action)
        tick, ended = tick + 1, terminated or truncated
        fallen = float(abs(position) > 2) if ended else None
        scalars = (np.float32(position), fallen, tick**2 if tick % 2 else None)
        final = (np.float32(position), tick) if ended else None
        yield *shown, action, np.float32(reward), terminated, truncated, final, scalars
        if ended:
            episode, tick = episode + 1, 0
            position = start(seed, lane, episode)


def played(environment: GymnasiumVector, seed: int, count: int, ignored: int = 0) -> list[list[Transition]]:
    """Each lane's transitions under `action_of`, with invalid entries dropped; those get the action `ignored`."""
    found: list[list[Transition]] = [[] for _ in range(environment.lanes)]
    observation, fresh = environment.reset(seed), [True] * environment.lanes
    while min(map(len, found)) < count:
        shown = [(observation["position"][lane, 0].item(), observation["tick"][lane].item()) for lane in range(LANES)]
        actions = [action_of(lane, len(found[lane])) if fresh[lane] else ignored for lane in range(LANES)]
        step = environment.step(torch.tensor(actions))
        valid, fresh = [True] * LANES if step.valid is None else step.valid.tolist(), [True] * LANES
        for lane in range(LANES):
            if not valid[lane]:
                assert step.reward[lane] == 0
                assert not step.ended[lane]
                assert all(values[lane].isnan() for values in step.info.values())
                continue
            final, ended = None, bool(step.ended[lane])
            if ended:
                last = step.final_observation
                final = last["position"][lane, 0].item(), last["tick"][lane].item()
                fresh[lane] = environment.autoreset is not AutoresetMode.NEXT_STEP
            scalars = [step.info[name][lane].item() if name in step.info else np.nan for name in NAMES]
            told = tuple(None if np.isnan(value) else value for value in scalars)
            flags = bool(step.terminated[lane]), bool(step.truncated[lane])
            found[lane].append((*shown[lane], actions[lane], step.reward[lane].item(), *flags, final, told))
        assert set(step.info) <= set(NAMES)
        observation = {key: leaf.clone() for key, leaf in step.observation.items()}
    return [each[:count] for each in found]


NAMES = ("position", "fallen", "power/x")


# The same transitions in every mode


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("batched_final", [False, True])
def test_the_autoreset_grid(mode: AutoresetMode, batched_final: bool) -> None:
    belt = Belt(mode=mode, batched_final=batched_final)
    found = played(GymnasiumVector(belt, LANES), 4, 60)
    for lane in range(LANES):
        assert found[lane] == list(expected(world_seed(4, "vector", 0), lane, lambda i, b=lane: action_of(b, i), 60))
    ends = {(terminated, truncated) for *_, terminated, truncated, _, _ in itertools.chain(*found)}
    assert ends == {(False, False), (True, False), (False, True), (True, True)}


@pytest.mark.parametrize("mode", MODES)
def test_lanes_that_end_together_do_not_begin_the_same_episodes_again(mode: AutoresetMode) -> None:
    """One lane always ends "together"; the seed of the first restart must not be used for its later episodes."""
    environment, starts = GymnasiumVector(Belt(1, mode), 1), []
    observation = environment.reset(4)
    for _ in range(40):
        if observation["tick"].item() == 0:
            starts.append(observation["position"].item())
        observation = environment.step(torch.tensor([1])).observation
    seed = world_seed(4, "vector", 0)
    assert len(starts) > 4
    assert starts == [np.float32(start(seed, 0, episode)) for episode in range(len(starts))]


def test_the_action_of_an_invalid_entry_changes_nothing() -> None:
    one, two = (played(GymnasiumVector(Belt(), LANES), 0, 40, ignored) for ignored in (0, 2))
    assert one == two


def test_a_rollout_gives_weight_0_to_what_the_environment_ignored() -> None:
    environment = GymnasiumVector(Belt(), LANES)
    policy = MLP(hidden=(8,)).build(environment.spaces, torch.Generator().manual_seed(0))
    collector = Collector(environment, policy, seed=2)
    collector.start()
    seed, horizon = environment._environment.seed, 40
    rollout = collector.collect(horizon)
    weight, ended = rollout.weight, rollout.ended
    assert weight is not None
    assert torch.equal(weight[1:] == 0, ended[:-1])  # exactly the entry after each end
    assert bool((weight[0] == 1).all())
    assert bool((rollout.reward[weight == 0] == 0).all())
    assert collector.steps == int(weight.sum())
    assert torch.equal(rollout.is_first[1:], ended[:-1] | (weight[:-1] == 0))
    returns, successor = [], rollout.next_observation()
    for lane in range(LANES):
        rows = weight[:, lane].nonzero().flatten().tolist()
        actions = rollout.action[rows, lane].tolist()
        reference = list(expected(seed, lane, lambda i, a=actions: a[i], len(rows)))
        total = 0.0
        for t, (position, tick, _, reward, terminated, truncated, final, _) in zip(rows, reference, strict=True):
            assert (position, tick) == (
                rollout.observation["position"][t, lane].item(),
                rollout.observation["tick"][t, lane],
            )
            assert (reward, terminated) == (rollout.reward[t, lane].item(), bool(rollout.terminated[t, lane]))
            total += float(reward)
            if final is not None:
                assert final == (successor["position"][t, lane].item(), successor["tick"][t, lane].item())
                assert bool(rollout.truncated[t, lane]) == (truncated and not terminated)
                returns.append((t, lane, total))
                total = 0.0
    assert list(collector.returns) == pytest.approx([total for _, _, total in sorted(returns)])


def test_the_first_moments_leave_out_what_the_environment_ignored() -> None:
    seen: list[float] = []

    class Watched(GymnasiumVector):
        def step(self, action: Any) -> Any:
            shown = self._tensors.observation["position"].flatten().tolist()
            step = super().step(action)
            valid = [True] * LANES if step.valid is None else step.valid.tolist()
            seen.extend(position for position, counts in zip(shown, valid, strict=True) if counts)
            return step

    environment = Watched(Belt(), LANES)
    policy = MLP(hidden=(8,)).build(environment.spaces, torch.Generator().manual_seed(0))
    scale = RewardScale(LANES, 0.9)
    Collector(environment, policy, seed=0, reward_scale=scale).start(warm_up=90)
    moments = policy.encoder.normalizer.moments
    assert len(seen) < 90
    assert moments.count == scale.moments.count == len(seen)
    assert moments.mean[0].item() == pytest.approx(np.mean(seen))


# Lanes with seeds of their own


@pytest.mark.parametrize("mode", MODES)
def test_lanes_that_take_seeds_are_those_of_gymnasium_lanes(mode: AutoresetMode) -> None:
    with (
        closing(GymnasiumVector(synchronous(3, mode), 3)) as vector,
        closing(GymnasiumLanes("CartPole-v1", 3)) as lanes,
    ):
        assert torch.equal(vector.reset(5), lanes.reset(5))
        generator, ends = torch.Generator().manual_seed(0), 0
        for t in range(150):
            if t == 70:
                chosen = torch.tensor([True, False, True])
                assert torch.equal(vector.cut(chosen), lanes.cut(chosen))
            action = torch.randint(2, (3,), generator=generator)
            one, two = vector.step(action), lanes.step(action)
            assert one.valid is None
            for name in ("observation", "reward", "terminated", "truncated"):
                assert torch.equal(getattr(one, name), getattr(two, name)), name
            if bool(one.ended.any()):
                ends += 1
                assert torch.equal(one.final_observation[one.ended], two.final_observation[one.ended])
        assert ends > 5


def synchronous(lanes: int, mode: AutoresetMode) -> VectorEnv[Any, Any, Any]:
    return SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * lanes, autoreset_mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_the_contract_is_kept(mode: AutoresetMode) -> None:
    check_environment(lambda lanes: GymnasiumVector(synchronous(lanes, mode), lanes), lanes=2, steps=50)
    belt = {"mode": mode}
    check_environment(
        lambda lanes: GymnasiumVector(Belt, lanes, options=belt), lanes=2, steps=30, independent_lanes=False
    )


def test_processes_of_gymnasium_give_the_same() -> None:
    make = [lambda: gymnasium.make("CartPole-v1")] * 2
    with (
        closing(GymnasiumVector(AsyncVectorEnv(make), 2)) as theirs,
        closing(GymnasiumVector(SyncVectorEnv(make), 2)) as ours,
    ):
        assert torch.equal(theirs.reset(1), ours.reset(1))
        for t in range(60):
            action = torch.tensor([t % 3 > 0, t % 4 > 0]).long()
            assert torch.equal(theirs.step(action).observation, ours.step(action).observation)
    with (
        closing(AsyncVectorEnv(make, shared_memory=False)) as forgetful,
        pytest.raises(UsageError, match="shared_memory"),
    ):
        GymnasiumVector(forgetful, 2)


# Restoring and cutting


@pytest.mark.parametrize("mode", MODES)
def test_a_fresh_instance_goes_on_from_a_boundary(mode: AutoresetMode) -> None:
    first, second = (GymnasiumVector(Belt, LANES, options={"mode": mode}) for _ in range(2))
    played(first, 3, 11)
    with pytest.raises(UsageError, match=r"right after reset or cut\(all lanes\)"):
        first.save()
    start_of_all = first.cut(torch.ones(LANES, dtype=torch.bool))
    state = first.save()
    assert torch.equal(second.restore(state)["position"], start_of_all["position"])
    for t in range(30):
        one, two = (each.step(torch.tensor([t % 3, 2, 1])) for each in (first, second))
        assert torch.equal(one.observation["position"], two.observation["position"])
        assert torch.equal(one.reward, two.reward)
    with pytest.raises(UsageError, match="3 lanes, but this environment has 2"):
        GymnasiumVector(Belt(2), 2).restore(state)


def test_single_lanes_are_cut_where_the_environment_can() -> None:
    chosen = torch.tensor([False, True, False])
    whole, single = GymnasiumVector(Belt(), LANES), GymnasiumVector(Belt(mode=AutoresetMode.DISABLED), LANES)
    for environment in (whole, single):
        environment.reset(0)
        before = environment.step(torch.tensor([2, 2, 2])).observation["position"].clone()
    assert (whole.cuts_single_lanes, single.cuts_single_lanes) == (False, True)
    with pytest.raises(UsageError, match="all lanes or none; received a cut of 1"):
        whole.cut(chosen)
    after = single.cut(chosen)["position"]
    assert (after != before).flatten().tolist() == chosen.tolist()
    assert after[1].item() == np.float32(start(world_seed(0, "vector", 0), 1, 1))


def test_every_restart_has_a_seed_of_its_own() -> None:
    environment = GymnasiumVector("CartPole-v1", 2)
    starts = [environment.reset(1).clone(), *(environment.cut(torch.ones(2, dtype=torch.bool)).clone() for _ in "abc")]
    assert len({tuple(each.flatten().tolist()) for each in starts}) == 4
    assert torch.equal(environment.reset(1), starts[0])


# Faults


def put(index: int, value: Any) -> Callable[[list[Any]], Any]:
    def alter(outcome: list[Any]) -> Any:
        outcome[index] = value(outcome[index])
        return tuple(outcome)

    return alter


def with_nan(values: Any) -> Any:
    values[1] = np.nan
    return values


def stuck(outcome: list[Any]) -> Any:
    raise ValueError("the belt is stuck")


FAULTS: dict[str, tuple[Callable[[list[Any]], Any], str, int | None]] = {
    "raises": (stuck, r"step raised ValueError: the belt is stuck\nTraceback[\s\S]*in stuck", None),
    "exits": (lambda outcome: exit(3), "step raised SystemExit: 3", None),
    "four values": (lambda outcome: tuple(outcome[:4]), "expected the 5 values", None),
    "reward": (put(1, with_nan), "reward is nan", 1),
    "reward shape": (put(1, lambda reward: reward[:, None]), r"reward of shape \(3, 1\)", None),
    "flag dtype": (put(2, lambda flag: flag.astype(float)), "terminated of shape .* dtype float64", None),
    "observation": (
        put(0, lambda o: o | {"position": with_nan(o["position"])}),
        r"observation\['position'\]\[0\] is",
        1,
    ),
    "missing key": (put(0, lambda o: {"tick": o["tick"]}), "batch of observations outside its space", None),
    "shape": (put(0, lambda o: o | {"position": o["position"].T}), r"shape \(1, 3\), expected \(3, 1\)", None),
    "dtype": (put(0, lambda o: o | {"tick": o["tick"] + 0.5}), r"observation\['tick'\] has dtype float64", None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_its_place_and_a_reset_goes_on(fault: str) -> None:
    alter, words, lane = FAULTS[fault]
    belt = Belt(mode=AutoresetMode.DISABLED)
    environment = GymnasiumVector(belt, LANES)
    environment.reset(0)
    action = torch.ones(LANES, dtype=torch.int64)
    environment.step(action)
    belt.alter = alter
    with pytest.raises(EnvironmentFailure, match=words) as caught:
        environment.step(action)
    assert (caught.value.lane, caught.value.step) == (lane, 1)
    assert str(caught.value).startswith("Belt, lane 1, step 1: " if lane else "Belt, step 1: ")
    with pytest.raises(UsageError, match="right after reset"):
        environment.save()
    belt.alter = None
    if fault == "reward":
        environment.cut(torch.tensor([True, False, False]))  # what the failed step left is not looked at again
    environment.reset(0)
    environment.step(action)


@pytest.mark.parametrize(
    ("mode", "alter", "words"),
    [
        (AutoresetMode.SAME_STEP, put(4, lambda info: {}), "info has no 'final_obs'"),
        (AutoresetMode.SAME_STEP, put(4, lambda info: {"final_obs": np.full(3, None)}), "final_obs outside its space"),
        (AutoresetMode.NEXT_STEP, put(2, lambda flag: ~flag), "ended an episode in the step that only resets it"),
    ],
)
def test_ends_that_break_the_mode_are_found(mode: AutoresetMode, alter: Any, words: str) -> None:
    belt = Belt(mode=mode)
    environment = GymnasiumVector(belt, LANES)
    environment.reset(0)

    def play() -> None:
        for _ in range(8):
            belt.alter = alter if belt.tick.max() == 5 or belt.owed.any() else None
            environment.step(torch.ones(LANES, dtype=torch.int64))

    with pytest.raises(EnvironmentFailure, match=words):
        play()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GymnasiumVector("FrozenLake-v1", 2), "no vectorised form of its own"),
        (lambda: GymnasiumVector(lambda num_envs: gymnasium.make("CartPole-v1"), 2), "expected a gymnasium.vector"),
        (lambda: GymnasiumVector(Belt(3), 2), "Belt has 3 lanes"),
        (lambda: GymnasiumVector(Belt(2), 2, options={"mode": None}), "made already"),
        (lambda: GymnasiumVector(Belt(2, mode=None), 2), "unclear what Belt does when a lane ends"),
        (lambda: GymnasiumVector(Belt(2), 2, autoreset="SameStep"), "both the same"),
        (lambda: GymnasiumVector(Belt(2, mode=None), 2, autoreset="sometimes"), "'sometimes'"),
        (lambda: GymnasiumVector(Belt, 0), "at least 1"),
        (lambda: GymnasiumVector(Belt(2), 2).step(torch.zeros(2)), "call reset"),
        (lambda: GymnasiumVector(Belt(2), 2).save(), "right after reset"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


def test_targets_by_name() -> None:
    assert GymnasiumVector(f"{__name__}:Belt", 2).spaces == spaces_of(Belt)
    assert GymnasiumVector("gymnasium:CartPole-v1", 2, options={"sutton_barto_reward": True}).lanes == 2
    assert GymnasiumVector(Belt(2, mode=None), 2, autoreset="Disabled").autoreset is AutoresetMode.DISABLED
    with pytest.raises(UnknownName, match="CartPole"):
        GymnasiumVector("CartPoel-v1", 2)


def test_it_is_closed_twice_and_then_refuses() -> None:
    environment = GymnasiumVector("CartPole-v1", 2)
    environment.close()
    environment.close()
    for call in (lambda: environment.reset(0), lambda: environment.step(torch.zeros(2))):
        with pytest.raises(UsageError, match="is closed"):
            call()


# The task


def test_the_task_uses_it_where_it_is_asked_to() -> None:
    task = Gymnasium(id="CartPole-v1", adapter="vector")
    with closing(task.environment(3, Execution(), training=True)) as environment:
        assert isinstance(environment, GymnasiumVector)
        assert environment.restoring == "boundary"
    assert task.actions == "discrete"
    assert Gymnasium(id=f"{__name__}:Belt", adapter="vector").actions == "discrete"
    with closing(Gymnasium(id="CartPole-v1").environment(3, Execution(), training=True)) as environment:
        assert isinstance(environment, GymnasiumLanes)
        assert environment.restoring == "replay"
    with pytest.raises(UsageError, match="--workers 0"):
        task.environment(3, Execution(workers=2), training=True)


def test_envpool_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(MissingExtra, match=r"EnvPool's Pong-v5 needs envpool.*pistar\[envpool\]"):
        Gymnasium(id="envpool:Pong-v5").environment(3, Execution(), training=True)


def test_a_vector_environment_that_draws_may_be_made_already() -> None:
    drawing = gymnasium.make_vec("CartPole-v1", 2, "sync", render_mode="rgb_array")
    with pytest.raises(UsageError, match="rendering only of rgb_array"):
        GymnasiumVector(Belt(2), 2, render=True)
    with closing(GymnasiumVector(drawing, 2, render=True)) as environment:
        environment.reset(0)
        frame = environment.render(1)
    assert frame is not None
    assert frame.shape[2:] == (3,)
