"""The doctor names the one fault of each animal of a zoo, finds none in sound ones, and never crashes."""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any, ClassVar, NamedTuple

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from pistar import cli
from pistar.doctor import Diagnosis, Finding, examine
from pistar.doctor.running import workers_pay
from pistar.envs.environment import Environment
from pistar.envs.gym_lanes import GymnasiumLanes
from pistar.errors import UnknownName, UnsupportedSpace, UsageError


class Sound(gymnasium.Env[Any, Any]):
    """A point to be kept near the origin; ends beyond ±2, cut after 30 steps."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    observation_space: Any = spaces.Box(-10.0, 10.0, (2,), np.float32)
    action_space: Any = spaces.Box(-1.0, 1.0, (1,), np.float32)
    limit = 30

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.position, self.elapsed = float(self.np_random.uniform(-1, 1)), 0
        return self.observe(), {}

    def observe(self) -> Any:
        return np.array([self.position, self.position**2], np.float32)

    def reward(self) -> Any:
        return -abs(self.position)

    def push(self, action: Any) -> float:
        return float(action[0])

    def step(self, action: Any) -> Any:
        self.position += 0.4 * self.push(action)
        self.elapsed += 1
        terminated = abs(self.position) > 2
        return self.observe(), self.reward(), terminated, self.elapsed >= self.limit, {"distance": abs(self.position)}


class Discreet(Sound):
    """As sound, with nested spaces."""

    observation_space = spaces.Dict({"where": Sound.observation_space, "side": spaces.Discrete(2)})
    action_space = spaces.Tuple([spaces.Discrete(3, start=-1), spaces.MultiBinary(2)])

    def observe(self) -> Any:
        return {"where": super().observe(), "side": int(self.position > 0)}

    def push(self, action: Any) -> float:
        return float(action[0])


class UnboundedAction(Sound):
    action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def push(self, action: Any) -> float:
        return float(np.clip(action[0], -1, 1))


class IntegerAction(Sound):
    action_space = spaces.Box(-1, 1, (1,), np.int64)


class OldSpace(Sound):
    action_space = "Box(1)"


class SequenceObservation(Sound):
    observation_space = spaces.Sequence(spaces.Discrete(3))


class IntegerObservation(Sound):
    observation_space = spaces.Box(-10, 10, (2,), np.int32)

    def observe(self) -> Any:
        return super().observe().astype(np.int32)


class FloatImage(Sound):
    observation_space = spaces.Box(0, 255, (4, 4, 3), np.float32)

    def observe(self) -> Any:
        return np.full((4, 4, 3), 100 + self.position, np.float32)


class WrongShape(Sound):
    def observe(self) -> Any:
        return super().observe()[:1]


class WrongDtype(Sound):
    def observe(self) -> Any:
        return super().observe().astype(np.float64)


class OutOfBounds(Sound):
    observation_space = spaces.Box(-0.1, 0.1, (2,), np.float32)


class MissingKey(Discreet):
    def observe(self) -> Any:
        return {"where": np.zeros(2, np.float32)}


class NotANumber(Sound):
    def observe(self) -> Any:
        observation = super().observe()
        if self.elapsed == 3:
            observation[1] = np.nan
        return observation


class InfiniteReward(Sound):
    def reward(self) -> Any:
        return np.inf if self.elapsed == 2 else 0.5


class ArrayReward(Sound):
    def reward(self) -> Any:
        return np.array([super().reward()])


class HugeReward(Sound):
    def reward(self) -> Any:
        return 1e5 * super().reward()


class TinyReward(Sound):
    def reward(self) -> Any:
        return 1e-6 * super().reward()


class NoReward(Sound):
    def reward(self) -> Any:
        return 0.0


class OldInterface(Sound):
    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, info


class BareReset(Sound):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


class SeedlessReset(Sound):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


class SmallSeeds(Sound):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if seed is not None and seed >= 2**16:
            raise ValueError("the seed must fit 16 bits")
        return super().reset(seed=seed)


class Raises(Sound):
    def step(self, action: Any) -> Any:
        if self.elapsed == 5:
            raise ValueError("the motor is stuck")
        return super().step(action)


class Exits(Sound):
    def step(self, action: Any) -> Any:
        sys.exit(3)


class FloatFlag(Sound):
    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, float(terminated), truncated, info


class MergedLimit(Sound):
    def step(self, action: Any) -> Any:
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, truncated, False, info


class OldMergedLimit(Sound):
    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, _ = super().step(action)
        return observation, reward, terminated or truncated, False, {"TimeLimit.truncated": truncated}


class OneDone(Sound):
    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        done = terminated or truncated
        return observation, reward, done, done, info


class Endless(Sound):
    limit = 10**9

    def push(self, action: Any) -> float:
        return -0.1 * self.position


class IgnoresItsSeed(Sound):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return super().reset()


class GlobalNumpy(Sound):
    def push(self, action: Any) -> float:
        return float(np.random.uniform(-1, 1))


class ReseedsTheProcess(Sound):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        np.random.seed(seed and seed % 2**32)
        return super().reset(seed=seed)


class GlobalRandom(Sound):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.position, self.elapsed = random.uniform(-1, 1), 0
        return self.observe(), {}


class Noisy(Sound):
    noise = random.SystemRandom()

    def push(self, action: Any) -> float:
        return self.noise.uniform(-1, 1)


class Remembers(Sound):
    """Wears off with use, over all episodes."""

    wear = 0.0

    def push(self, action: Any) -> float:
        self.wear += 1e-3
        return super().push(action) * (1 - self.wear % 1)


class Siblings(Sound):
    """All instances share one position."""

    shared: ClassVar[list[float]] = [0.0]

    @property
    def position(self) -> float:
        return self.shared[0]

    @position.setter
    def position(self, value: float) -> None:
        self.shared[0] = value


class OneBuffer(Sound):
    def __init__(self) -> None:
        self.buffer = np.zeros(2, np.float32)

    def observe(self) -> Any:
        self.buffer[:] = super().observe()
        return self.buffer


class View(OneBuffer):
    """Another object each time, but the same memory."""

    def observe(self) -> Any:
        return super().observe()[:]


class ChangesTheAction(Sound):
    def push(self, action: Any) -> float:
        action *= 0.5
        return float(action[0])


class ArrayInInfo(Sound):
    def step(self, action: Any) -> Any:
        return (*super().step(action)[:4], {"path": np.zeros(3)})


class NoInfo(Sound):
    def step(self, action: Any) -> Any:
        return (*super().step(action)[:4], None)


class Zombie(Sound):
    """Steps back from the edge after its end."""

    def step(self, action: Any) -> Any:
        if abs(self.position) > 2:
            self.position = 0.0
        return super().step(action)


class NeverResetsTwice(Sound):
    """Cannot be reset after a step beyond its end."""

    def step(self, action: Any) -> Any:
        if abs(self.position) > 2:
            self.dead = True
        return super().step(action)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if getattr(self, "dead", False):
            raise RuntimeError("dead")
        return super().reset(seed=seed)


class ClosesOnce(Sound):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True


class Slow(Sound):
    """Its steps take long; it lets the clock that measures it jump instead of waiting."""

    lost: ClassVar[float] = 0.0

    def push(self, action: Any) -> float:
        Slow.lost += 0.05
        return super().push(action)


class DrawsNothing(Sound):
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}  # type: ignore[misc]


class DrawsFloats(DrawsNothing):
    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def render(self) -> Any:
        return np.zeros((2, 3, 3))


class Case(NamedTuple):
    animal: type[Sound]
    mark: str
    topic: str
    words: str


ZOO = [
    Case(UnboundedAction, "warning", "action space", "unbounded in 1 of 1"),
    Case(IntegerAction, "error", "action space", "Box of int64"),
    Case(OldSpace, "error", "action space", "no gymnasium.Space"),
    Case(SequenceObservation, "error", "observation space", "no fixed-size array form"),
    Case(IntegerObservation, "warning", "observation space", "Box of int32"),
    Case(FloatImage, "warning", "observation space", "image of float32"),
    Case(WrongShape, "error", "observation", "shape (1,), expected (2,)"),
    Case(WrongDtype, "warning", "observation", "is float64, but its space declares float32"),
    Case(OutOfBounds, "warning", "observation", "outside its bounds -0.1 to 0.1"),
    Case(MissingKey, "error", "observation", "expected a dict with the keys"),
    Case(NotANumber, "error", "observation", "observation[1] is nan"),
    Case(InfiniteReward, "error", "reward", "the reward is inf"),
    Case(ArrayReward, "error", "reward", "expected one real number"),
    Case(HugeReward, "warning", "reward", "in size"),
    Case(TinyReward, "warning", "reward", "in size"),
    Case(NoReward, "warning", "reward", "was paid 0"),
    Case(OldInterface, "error", "interface", "a tuple of 4, expected (observation, reward, terminated"),
    Case(BareReset, "error", "interface", "expected (observation, info)"),
    Case(SeedlessReset, "error", "interface", "unexpected keyword argument 'seed'"),
    Case(SmallSeeds, "error", "interface", "the seed must fit 16 bits"),
    Case(Raises, "error", "interface", "raised ValueError: the motor is stuck"),
    Case(Exits, "error", "interface", "raised SystemExit: 3"),
    Case(FloatFlag, "error", "flags", "terminated is 0.0"),
    Case(MergedLimit, "warning", "episodes", "a time limit merged into terminated"),
    Case(OldMergedLimit, "error", "episodes", "TimeLimit.truncated"),
    Case(OneDone, "warning", "episodes", "one `done` were given twice"),
    Case(Endless, "warning", "episodes", "no time limit is known"),
    Case(IgnoresItsSeed, "error", "seeding", "another observation the second time, in the same instance"),
    Case(GlobalNumpy, "error", "randomness", "step draws from (or reseeds) the global stream of numpy.random"),
    Case(ReseedsTheProcess, "error", "randomness", "reset draws from (or reseeds) the global stream of numpy.random"),
    Case(GlobalRandom, "error", "randomness", "reset draws from (or reseeds) the global stream of random"),
    Case(Noisy, "warning", "restoring", "not replayable: equal seeds and actions lead elsewhere"),
    Case(Remembers, "warning", "restoring", "an instance that has not played those before it"),
    Case(Siblings, "error", "restoring", "they share state"),
    Case(OneBuffer, "warning", "buffers", "the same object"),
    Case(View, "warning", "buffers", "the same memory"),
    Case(ChangesTheAction, "warning", "buffers", "changes the action"),
    Case(ArrayInInfo, "warning", "info", "info['path'] is an array of float64 [3]"),
    Case(NoInfo, "error", "info", "info is None, expected a dict"),
    Case(NeverResetsTwice, "error", "after the end", "reset after that raised RuntimeError: dead"),
    Case(ClosesOnce, "warning", "close", "raised RuntimeError: closed already"),
    Case(Slow, "warning", "speed", "ms a step"),
    Case(DrawsNothing, "warning", "render", "DrawsNothing() takes no arguments"),
    Case(DrawsFloats, "warning", "render", "the frame is float64 [2, 3, 3], expected uint8"),
]
# Faults that bring others of necessity; every other animal must have its own fault and no more.
ENTAIL = {
    FloatImage: {"episodes"},
    IgnoresItsSeed: {"restoring"},
    GlobalNumpy: {"restoring"},
    GlobalRandom: {"restoring", "seeding"},
    Siblings: {"episodes"},
}


def faults(diagnosis: Diagnosis) -> list[Finding]:
    return [finding for finding in diagnosis.findings if finding.mark != "ok"]


@pytest.mark.parametrize("case", ZOO, ids=lambda case: case.animal.__name__)
def test_each_fault_of_the_zoo_is_named(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if case.animal is Slow:
        true_clock = time.perf_counter
        monkeypatch.setattr(time, "perf_counter", lambda: true_clock() + Slow.lost)
    target = f"{__name__}:{case.animal.__name__}" if issubclass(case.animal, DrawsNothing) else case.animal
    diagnosis = examine(target, steps=250)
    named = [finding for finding in faults(diagnosis) if finding.topic == case.topic and case.words in finding.text]
    assert named, diagnosis.to_text()
    assert named[0].mark == case.mark
    assert named[0].advice
    assert diagnosis.healthy == (not any(finding.mark == "error" for finding in diagnosis.findings))
    if not any(finding.topic == "interface" for finding in faults(diagnosis)):
        others = {finding.topic for finding in faults(diagnosis)} - {case.topic}
        assert others <= ENTAIL.get(case.animal, set()), diagnosis.to_text()


@pytest.mark.parametrize("target", [Sound, Discreet, "CartPole-v1"])
def test_sound_environments_have_no_fault(target: Any) -> None:
    diagnosis = examine(target, steps=250, render=False)
    assert faults(diagnosis) == [], diagnosis.to_text()
    assert diagnosis.verdict.endswith("is healthy")


def test_findings_give_lane_episode_and_step_and_count_repetitions() -> None:
    finding = next(each for each in examine(NotANumber, steps=250).findings if "is nan" in each.text)
    assert finding.place is not None
    assert (finding.place.lane, finding.place.episode, finding.place.step) == (0, 0, 2)
    assert finding.count > 5
    assert "lane 0, episode 0, step 2: observation[1] is nan" in "\n".join(finding.lines())


def test_unrepeatable_worlds_are_told_of_the_boundary_tier() -> None:
    for animal in (Noisy, Remembers, IgnoresItsSeed):
        assert any("--gymnasium.restoring boundary" in each.advice for each in faults(examine(animal, steps=100)))


def test_a_world_that_forgets_its_end_is_told_so_without_blame() -> None:
    diagnosis = examine(Zombie, steps=250)
    assert faults(diagnosis) == []
    assert "goes on with terminated=False" in diagnosis.to_text()


def test_a_seed_that_must_be_small_is_told_apart_from_a_broken_reset() -> None:
    assert any("seed % N" in each.advice for each in faults(examine(SmallSeeds)))
    assert not any("seed % N" in each.advice for each in faults(examine(SeedlessReset)))


def test_the_process_streams_are_left_as_they_were() -> None:
    np.random.seed(5)
    expected = np.random.RandomState(5).rand()
    examine(ReseedsTheProcess, steps=60)
    assert np.random.rand() == expected


@pytest.mark.parametrize(
    ("cost", "cores", "words"), [(5e-3, 4, "--workers 4"), (5e-6, 4, "not pay"), (1, 1, "not pay")]
)
def test_workers_are_advised_where_steps_are_dear(cost: float, cores: int, words: str) -> None:
    assert words in workers_pay(cost, cores)


# ---- environments of pistar's own ------------------------------------------------------------------------------------


class Native(GymnasiumLanes):
    def __init__(self, lanes: int) -> None:
        super().__init__(Sound, lanes)


class ForgetsItsPlace(Native):
    def restore(self, state: Any) -> Any:
        return self.reset(0)


def test_native_environments_are_held_to_their_contract() -> None:
    assert issubclass(Native, Environment)
    sound, broken = (examine(f"{__name__}:{each.__name__}", steps=40) for each in (Native, ForgetsItsPlace))
    assert faults(sound) == [], sound.to_text()
    assert [finding.topic for finding in faults(broken)] == ["contract"]
    assert "restore" in faults(broken)[0].text


class Forbidding(gymnasium.Env[Any, Any]):
    """Every other choice of four is forbidden, by turns; what is forbidden raises."""

    observation_space = spaces.Dict({"action_mask": spaces.MultiBinary(4), "time": spaces.Box(0, 50, (1,))})
    action_space = spaces.Discrete(4)

    def _observed(self) -> dict[str, Any]:
        mask = np.array([k % 2 == self.time % 2 for k in range(4)], np.int8)
        return {"action_mask": mask, "time": np.array([self.time], np.float32)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = int(self.np_random.integers(2))
        return self._observed(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if action % 2 != self.time % 2:
            raise ValueError(f"{action} is forbidden")
        self.time += 1
        return self._observed(), float(action == 1), self.time >= 20, False, {}


def test_only_allowed_actions_are_tried_where_the_mask_is_named() -> None:
    blind = examine(Forbidding, steps=60, render=False)
    assert "look again with --mask action_mask" in faults(blind)[0].advice
    seeing = examine(Forbidding, steps=60, render=False, mask="action_mask")
    assert faults(seeing) == [], seeing.to_text()
    with pytest.raises(UnknownName, match="action_mask"):
        examine(Forbidding, mask="mask")
    with pytest.raises(UnsupportedSpace, match="no dict"):
        examine("CartPole-v1", mask="mask")
    with pytest.raises(UsageError, match="says by itself"):
        examine("masked-grid", mask="mask")


# ---- the command -----------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["doctor", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_last_line_is_the_verdict_and_the_exit_code_follows_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "CartPole-v1", "--steps", "60", "--no-render")
    assert (code, out.splitlines()[-1]) == (0, "verdict: CartPole-v1 is healthy")
    code, out, _ = run(capsys, f"{__name__}:WrongShape", "--steps", "60")
    assert code == 4
    assert out.splitlines()[-1].startswith(f"verdict: {__name__}:WrongShape is not fit for training: 1 error")


def test_json_holds_the_same_findings(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, f"{__name__}:NotANumber", "--steps", "60", "--json")
    report = json.loads(out)
    assert (code, report["healthy"], report["errors"]) == (4, False, 1)
    [finding] = [each for each in report["findings"] if each["mark"] == "error"]
    assert (finding["lane"], finding["episode"], finding["step"]) == (0, 0, 2)


def test_constructor_options_reach_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "CartPole-v1", "--steps", "60", "--no-render", "--gymnasium.options.max_episode_steps", "8")
    assert "time limit 8" in out


@pytest.mark.parametrize(
    "target", ["NoSuchThing-v0", "no_such_module:Class", "json:NoSuchClass", "tests", "json:loads"]
)
def test_what_cannot_be_made_is_bad_usage(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, target)
    assert (code, out) == (2, "")
    assert err.startswith("pistar: error: ")


def test_a_constructor_that_raises_is_bad_usage() -> None:
    def make() -> Any:
        raise RuntimeError("no robot")

    with pytest.raises(UsageError, match="no robot"):
        examine(make)
    with pytest.raises(UnknownName, match="CartPole-v1"):
        examine("CartPole-v17")


def test_help_needs_no_torch() -> None:
    import subprocess

    code = "import sys; from pistar import cli; cli.main(['doctor', '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pistar doctor TARGET" in done.stdout
