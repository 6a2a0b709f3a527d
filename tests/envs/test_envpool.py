"""EnvPool's lanes: Gymnasium's physics and flags, a stream of random numbers per lane, faults in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from pistar.collector import Collector
from pistar.envs import envpool
from pistar.envs.environment import Environment
from pistar.envs.gym_vector import GymnasiumVector
from pistar.errors import UnknownName, UnsupportedSpace, UsageError
from pistar.policies.mlp import MLP
from pistar.tasks.gymnasium import Gymnasium
from pistar.tasks.task import Execution
from pistar.testing import check_environment

pytest.importorskip("envpool", reason="EnvPool is an extra")


def balancing(observation: Tensor) -> Tensor:
    """A controller of CartPole that lasts: push to where the pole falls."""
    return (observation @ torch.tensor([0.05, 0.2, 3.0, 1.0]) > 0).long()


def random_actions(seed: int, lanes: int, count: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(2, (lanes,), generator=generator) for _ in range(count))


def test_the_contract_is_kept() -> None:
    """But for starts that do not depend on how an episode was reached: a cut begins new streams."""
    for name, limit in (("CartPole-v1", 500), ("Pendulum-v1", 20)):
        check_environment(
            lambda lanes, name=name, limit=limit: envpool.lanes(name, lanes, options={"max_episode_steps": limit}),
            lanes=2,
            steps=60,
            independent_lanes=False,
        )


def test_every_transition_is_one_of_gymnasiums_cartpole() -> None:
    """Whose state is set to the observation before; so that lanes are not mixed up and last observations are kept."""
    reference: Any = gymnasium.make("CartPole-v1").unwrapped
    reference.reset(seed=0)
    with closing(envpool.lanes("CartPole-v1", 4)) as environment:
        before, ends, fresh = environment.reset(3).clone(), 0, [True] * 4
        for action in random_actions(0, 4, 120):
            step = environment.step(action)
            for lane in range(4):
                assert fresh[lane] == (step.valid is None or bool(step.valid[lane]))
                if not fresh[lane]:
                    assert (step.reward[lane], step.ended[lane]) == (0, False)
                    assert bool((step.observation[lane].abs() <= 0.05).all())
                    continue
                reference.state, reference.steps_beyond_terminated = before[lane].double().numpy(), None
                observation, reward, terminated, *_ = reference.step(int(action[lane]))
                found = step.final_observation[lane] if bool(step.ended[lane]) else step.observation[lane]
                assert found.numpy() == pytest.approx(observation, abs=1e-5)
                assert (step.reward[lane], step.terminated[lane], step.truncated[lane]) == (reward, terminated, False)
            fresh, before = (~step.ended).tolist(), step.observation.clone()
            ends += int(step.ended.sum())
    assert ends > 10


End = tuple[int, Tensor, Tensor, Tensor]  # the step's number from 1; terminated, truncated and last observation [B]


def ends_of(environment: Environment, actions: Any, count: int) -> list[End]:
    """The steps in which a lane ended."""
    observation, found = environment.reset(0), []
    for number in range(1, count + 1):
        step = environment.step(actions(observation))
        observation = step.observation
        if bool(step.ended.any()):
            found.append((number, step.terminated.clone(), step.truncated.clone(), step.final_observation.clone()))
    environment.close()
    return found


def right(observation: Tensor) -> Tensor:
    return torch.ones(len(observation), dtype=torch.int64)


def test_time_limits_truncate_and_falls_terminate() -> None:
    swung = ends_of(envpool.lanes("Pendulum-v1", 3), lambda _: torch.zeros(3, 1), 401)
    lasting = ends_of(envpool.lanes("CartPole-v1", 3), balancing, 500)
    assert [number for number, *_ in swung] == [200, 401]  # the step between them is ignored
    assert [number for number, *_ in lasting] == [500]
    for _, terminated, truncated, _ in (*swung, *lasting):
        assert (truncated.tolist(), terminated.tolist()) == ([True] * 3, [False] * 3)
    falls = ends_of(envpool.lanes("CartPole-v1", 3), right, 12)
    assert len(falls) > 0
    assert not any(bool(truncated.any()) for _, _, truncated, _ in falls)


def test_a_fall_in_the_step_of_the_limit_is_told_as_a_time_limit() -> None:
    """EnvPool's own choice, which the module's text describes; Gymnasium sets both flags there."""
    ends = ends_of(envpool.lanes("CartPole-v1", 64, options={"max_episode_steps": 9}), right, 9)
    *earlier, (number, terminated, truncated, last) = ends
    assert number == 9
    assert bool((truncated & (last[:, 2].abs() > 12 * 2 * np.pi / 360)).any())
    assert not bool((terminated & truncated).any())
    assert not any(bool(each.any()) for _, _, each, _ in earlier)


def test_what_a_lane_sees_depends_on_no_other_lane() -> None:
    few, many = envpool.lanes("CartPole-v1", 2), envpool.lanes("CartPole-v1", 5)
    with closing(few), closing(many):
        assert torch.equal(few.reset(3), many.reset(3)[:2])
        for action in random_actions(0, 5, 60):
            assert torch.equal(few.step(action[:2]).observation, many.step(action).observation[:2])


def test_a_seed_decides_the_episodes_and_threads_do_not() -> None:
    def played(threads: int, seed: int) -> Tensor:
        with closing(envpool.lanes("CartPole-v1", 5, threads)) as environment:
            seen = [environment.reset(seed).clone()]
            return torch.stack(
                seen + [environment.step(action).observation.clone() for action in random_actions(0, 5, 100)]
            )

    one = played(1, 7)
    assert torch.equal(one, played(3, 7))
    assert not torch.equal(one, played(1, 8))
    assert len({tuple(row) for row in one[0].tolist()}) == 5


def test_a_rollout_gives_weight_0_to_what_is_ignored() -> None:
    environment = envpool.lanes("CartPole-v1", 4)
    policy = MLP(hidden=(8,)).build(environment.spaces, torch.Generator().manual_seed(0))
    collector = Collector(environment, policy, seed=2)
    collector.start()
    rollout = collector.collect(80)
    weight, ended = rollout.weight, rollout.ended
    assert weight is not None
    assert int(ended.sum()) > 4
    assert torch.equal(weight[1:] == 0, ended[:-1])
    assert collector.steps == int(weight.sum())
    assert bool((rollout.reward == weight).all())  # CartPole gives 1 for a step
    assert list(collector.returns) == list(collector.lengths)
    environment.close()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted as Linux lists them")
def test_new_episodes_and_closing_leave_no_threads_behind() -> None:
    before = len(os.listdir("/proc/self/task"))
    environment = envpool.lanes("CartPole-v1", 4, threads=2)
    assert len(os.listdir("/proc/self/task")) == before  # none before they are needed
    counts = set()
    for seed in range(5):
        environment.reset(seed)
        counts.add(len(os.listdir("/proc/self/task")))
    assert len(counts) == 1
    assert max(counts) > before
    environment.close()
    assert len(os.listdir("/proc/self/task")) == before


def test_a_frame_of_each_lane() -> None:
    with closing(envpool.lanes("CartPole-v1", 2, render=True)) as environment:
        environment.reset(0)
        one, two = environment.render(0), environment.render(1)
    assert one is not None
    assert two is not None
    assert one.ndim == 3
    assert one.dtype == np.uint8
    assert not np.array_equal(one, two)
    with closing(envpool.lanes("CartPole-v1", 2)) as environment:
        assert environment.render() is None


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: envpool.lanes("CartPoel-v1", 2), UnknownName, "did you mean 'CartPole-v1'"),
        (lambda: envpool.lanes("envpool:Pnog-v5", 2), UnknownName, "did you mean 'Pong-v5'"),
        (lambda: envpool.lanes("CartPole-v1", 2, options={"max_steps": 3}), UnknownName, "mean 'max_episode_steps'"),
        (
            lambda: envpool.lanes("CartPole-v1", 2, options={"seed": 3}),
            UsageError,
            "'seed' of EnvPool is set by pistar",
        ),
        (
            lambda: envpool.lanes("CartPole-v1", 2, options={"max_episode_steps": "long"}),
            UsageError,
            "cannot make CartPole-v1 with the options .*'long'",
        ),
        (lambda: envpool.lanes("Go9x9-v1", 2), UnsupportedSpace, "2 players"),
        (lambda: envpool.lanes("CartPole-v1", 0), UsageError, "at least 1 lane and 1 thread, received 0 and 1"),
        (lambda: envpool.lanes("CartPole-v1", 1).step(torch.zeros(1)), UsageError, "call reset"),
    ],
)
def test_what_cannot_be_made_is_refused_in_words(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_no_warning_about_the_precision_of_bounds_reaches_the_user(recwarn: pytest.WarningsRecorder) -> None:
    environment = envpool.lanes("CartPole-v1", 1)
    environment.reset(0)
    environment.step(torch.zeros(1, dtype=torch.int64))
    environment.close()
    assert [str(each.message) for each in recwarn] == []


def test_the_task_uses_it_where_it_is_asked_to() -> None:
    for task in (Gymnasium(id="CartPole-v1", adapter="envpool"), Gymnasium(id="envpool:CartPole-v1")):
        with closing(task.environment(3, Execution(threads=2), training=True)) as environment:
            assert isinstance(environment, GymnasiumVector)
            assert (environment.name, environment.restoring) == ("EnvPool's CartPole-v1", "boundary")
        assert task.actions == "discrete"
        assert task.best_workers(8)[0] == 0
        with pytest.raises(UsageError, match="--workers 0"):
            task.environment(3, Execution(workers=2), training=True)
    assert Gymnasium(id="Pendulum-v1", adapter="envpool").actions == "continuous"
    assert Gymnasium(id="HalfCheetah-v5", adapter="envpool").batched is False
