"""A stand-in for simulators of torch tensors: points that drift, reset within the step, and tell time-outs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pistar import experiment, serialization
from pistar.envs.environment import Environment
from pistar.envs.torch_vector import TorchVector
from pistar.errors import EnvironmentFailure, UsageError
from pistar.experiment import resolve
from pistar.session import Session
from pistar.testing import check_environment


class Drift:
    """``num_envs`` points in a plane that a push moves; one that leaves the disc of radius 2 is lost (done)."""

    num_actions, max_episode_length, device = 2, 12, torch.device("cpu")

    def __init__(self, num_envs: int, critic: bool = False, tells: bool = False) -> None:
        self.num_envs, self.critic, self.tells = num_envs, critic, tells
        self.place = torch.zeros(num_envs, 2)
        self.episode_length_buf = torch.zeros(num_envs, dtype=torch.long)
        self.generator = torch.Generator()
        self.last: Any = None

    def seed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def see(self) -> Any:
        if not self.critic:
            return self.place  # the simulator's own memory
        return {"policy": self.place, "critic": torch.cat((self.place, self.episode_length_buf[:, None].float()), 1)}

    def _begin(self, lanes: Tensor) -> None:
        fresh = torch.rand(self.num_envs, 2, generator=self.generator) - 0.5
        self.place[lanes] = fresh[lanes]
        self.episode_length_buf[lanes] = 0

    def reset(self) -> Any:
        self._begin(torch.ones(self.num_envs, dtype=torch.bool))
        return self.see(), {}

    def step(self, action: Tensor) -> Any:
        self.place += 0.3 * action + 0.05 * torch.randn(self.num_envs, 2, generator=self.generator)
        self.episode_length_buf += 1
        lost = self.place.norm(dim=1) > 2
        late = self.episode_length_buf >= self.max_episode_length
        reward = -self.place.norm(dim=1)
        self.last = self.place.clone()
        extras: dict[str, Any] = {"time_outs": late & ~lost, "log": {"lost": lost.float().mean()}}
        if self.tells:
            extras["final_observation"] = self.last
        self._begin(lost | late)
        return self.see(), reward, (lost | late).long(), extras


def pushed(environment: Environment, steps: int) -> Any:
    generator = torch.Generator().manual_seed(0)
    seen = environment.reset(1).clone()
    for _ in range(steps):
        action = torch.randn(environment.lanes, 2, generator=generator)
        step = environment.step(action)
        yield seen, action, step
        seen = step.observation.clone()


@pytest.mark.parametrize("options", [{}, {"critic": True}, {"tells": True}], ids=["tensor", "dict", "final"])
def test_the_contract_holds(options: dict[str, Any]) -> None:
    check_environment(lambda lanes: TorchVector(Drift, lanes, options=options), steps=40, independent_lanes=False)


@pytest.mark.parametrize("tells", [False, True])
def test_transitions_are_those_of_the_simulator_and_time_outs_bootstrap_from_what_is_known(tells: bool) -> None:
    environment = TorchVector(Drift, 5, options={"tells": tells})
    lost = late = 0
    for t, (seen, action, step) in enumerate(pushed(environment, 60)):
        drift = environment._simulator
        assert torch.equal(step.reward, -drift.last.norm(dim=1))
        assert (drift.last - seen - 0.3 * action).norm(dim=1).max() < 0.5
        assert torch.equal(step.terminated, drift.last.norm(dim=1) > 2), f"step {t}"
        assert not (step.terminated & step.truncated).any()
        assert torch.equal(step.ended, drift.episode_length_buf == 0)
        if step.ended.any():
            # Told: what it saw last. Not told: what it saw before, as rsl_rl bootstraps.
            expected = drift.last if tells else seen
            assert torch.equal(step.final_observation[step.ended], expected[step.ended])
        lost, late = lost + int(step.terminated.sum()), late + int(step.truncated.sum())
        assert step.info["lost"].shape == (5,)
    assert lost > 0
    assert late > 0


def test_entries_of_a_dict_can_be_chosen() -> None:
    everything = TorchVector(Drift, 2, options={"critic": True})
    assert set(everything.reset(0)) == {"policy", "critic"}
    alone = TorchVector(Drift, 2, options={"critic": True}, entries=("policy",))
    assert alone.spaces.observation.shape == (2,)
    with pytest.raises(UsageError, match=r"\['camera'\]"):
        TorchVector(Drift, 2, options={"critic": True}, entries=("camera",))


def test_first_episodes_may_be_staggered_and_are_the_same_again() -> None:
    environments = [TorchVector(Drift, 50, random_elapsed=True) for _ in range(2)]
    for environment in environments:
        environment.reset(7)
    one, two = (environment._simulator.episode_length_buf for environment in environments)
    assert torch.equal(one, two)
    assert len(one.unique()) > 5
    assert one.max() < Drift.max_episode_length


def test_what_is_no_simulator_is_refused() -> None:
    with pytest.raises(UsageError, match="no num_actions, reset, step"):
        TorchVector(lambda num_envs: type("Empty", (), {"num_envs": num_envs})(), 2)
    with pytest.raises(UsageError, match="has 3 lanes"):
        TorchVector(lambda num_envs: Drift(3), 2)
    environment = TorchVector(Drift, 2)
    environment.reset(0)
    environment._simulator.step = lambda action: 1 / 0
    with pytest.raises(EnvironmentFailure, match="ZeroDivisionError"):
        environment.step(torch.zeros(2, 2))


def test_a_run_by_name_resumes_at_a_boundary_bit_for_bit(tmp_path: Any) -> None:
    table = experiment.find_task("simulator:test_torch_vector:Drift")
    plan = resolve(table, ({"training": {"steps": 4000, "lanes": 8, "horizon": 16, "warm_up": 0}}, "the test"))
    whole = Session(plan)
    whole.collector.start()
    whole.iterate(cut=False)
    whole.iterate(cut=True)
    serialization.write(tmp_path / "state", whole.checkpoint(), "test")
    state, _ = serialization.read(tmp_path / "state", "test")
    other = Session(plan)
    other.restore(state)
    for _ in range(2):
        whole.iterate(cut=False)
        other.iterate(cut=False)
    assert torch.equal(whole.learner.parameters, other.learner.parameters)
