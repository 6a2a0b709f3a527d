"""What goes wrong in a run is named with its place, costs nothing that was saved, and can be gone on with once repaired."""

import ast
import errno
import inspect
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import pistar
from pistar import errors
from pistar.errors import (
    EnvironmentFailure,
    Interrupted,
    NumericalError,
    PistarError,
    StorageError,
    nearest,
)
from pistar.interruption import Interruption
from pistar.training import Session

SMALL: dict[str, Any] = {
    "steps": 512,
    "lanes": 2,
    "horizon": 32,
    "warm_up": 0,
    "workers": 0,  # said, and so not measured: every environment that is made is counted below
    "checkpoints": {"every": 2},
    "evaluation": {"episodes": 2, "every": 0, "final_episodes": 2},
    "mlp": {"hidden": [8]},
    "ppo": {"epochs": 1},
    "quiet": True,
}
FAULT: dict[str, Any] = {}  # "step" of a lane's life at which "what" happens; empty: a healthy world


class Walk(gymnasium.Env[np.ndarray, int]):
    """A number that grows or shrinks by one, ten steps long, with a fault on order in the lane that was made second."""

    observation_space = gymnasium.spaces.Box(-20.0, 20.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    made = 0

    def __init__(self) -> None:
        self.lane, Walk.made = Walk.made, Walk.made + 1
        self.age = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.time = float(self.np_random.integers(-3, 4)), 0
        return self.observe(), {}

    def step(self, action: int) -> Any:
        self.place, self.time, self.age = self.place + 2 * int(action) - 1, self.time + 1, self.age + 1
        result = [self.observe(), -abs(self.place), False, self.time == 10, {}]
        if FAULT and self.age > FAULT["step"] and self.lane == 1:
            result = FAULT["what"](result)
        return tuple(result)

    def observe(self) -> Any:
        return np.array([self.place, self.time], np.float32)


def burn(result: list[Any]) -> list[Any]:
    raise RuntimeError("the motor is on fire")


def changed(index: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    def change(result: list[Any]) -> list[Any]:
        return [value if n == index else each for n, each in enumerate(result)]

    return change


FAULTS = {
    "raises": (burn, "step raised RuntimeError: the motor is on fire"),
    "observation is NaN": (changed(0, np.array([0.0, np.nan], np.float32)), "observation.* is .*nan"),
    "observation is infinite": (changed(0, np.array([np.inf, 0.0], np.float32)), "observation.* is .*inf"),
    "observation has another shape": (changed(0, np.zeros(3, np.float32)), "shape"),
    "observation has another type": (changed(0, np.array(["a", "b"])), "observation outside its space"),
    "observation is complex": (changed(0, np.zeros(2, complex)), "observation outside its space"),
    "observation is missing": (changed(0, None), "observation outside its space"),
    "reward is NaN": (changed(1, float("nan")), "reward is nan"),
    "reward is infinite": (changed(1, float("-inf")), "reward is -inf"),
    "reward is a text": (changed(1, "much"), "the reward 'much', expected one real number"),
    "reward is a vector": (changed(1, np.zeros(2)), "the reward .* expected one real number"),
    "terminated is a number": (changed(2, 0.5), "terminated=0.5, expected True or False"),
    "info is a list": (changed(4, [1]), "the info .*, expected a dict"),
    "four values": (lambda result: result[:4], "step returned 4 values, expected the 5 values"),
}


@pytest.fixture(autouse=True)
def healthy() -> Iterator[None]:
    FAULT.clear()
    Walk.made = 0
    yield
    FAULT.clear()


def train(out: Path, **changes: Any) -> Any:
    Walk.made = 0
    return pistar.train(f"{__name__}:Walk", out=out, **{**SMALL, **changes})


def weights(run: Path) -> dict[str, torch.Tensor]:
    return pistar.load(run).state_dict()


def assert_equal_policies(one: Path, other: Path) -> None:
    mine, theirs = weights(one), weights(other)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


# ---- the world -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_world_is_named_by_lane_and_step(fault: str, tmp_path: Path):
    # `made` counts from the environment that is asked for its spaces, so that lane 0 is the one that was made second.
    what, message = FAULTS[fault]
    FAULT.update(step=200, what=what)
    with pytest.raises(EnvironmentFailure, match=message) as caught:
        train(tmp_path / "run")
    assert caught.value.exit_code == 4
    assert (caught.value.lane, caught.value.step) == (0, 200)
    assert re.search(r"test_errors:Walk, lane 0, step 200: ", str(caught.value))


@pytest.mark.parametrize("fault", ["raises", "observation is NaN", "reward is infinite"])
def test_after_a_fault_the_last_checkpoint_stands_and_the_repaired_run_goes_on_bit_for_bit(fault: str, tmp_path: Path):
    FAULT.update(step=200, what=FAULTS[fault][0])  # in iteration 7 of 8; checkpoints after 2, 4 and 6
    with pytest.raises(EnvironmentFailure):
        train(tmp_path / "broken")
    assert [path.name for path in sorted((tmp_path / "broken" / "checkpoints").iterdir())] == [
        "iteration-00000004.safetensors",
        "iteration-00000006.safetensors",
    ]
    FAULT.clear()
    assert pistar.evaluate(tmp_path / "broken", episodes=2).episodes == 2
    pistar.resume(tmp_path / "broken", quiet=True)
    train(tmp_path / "whole")
    assert_equal_policies(tmp_path / "broken", tmp_path / "whole")


def test_a_world_that_fails_before_its_first_step_leaves_no_run(tmp_path: Path):
    with pytest.raises(EnvironmentFailure, match="its constructor raised"):
        pistar.train("CartPole-v1", out=tmp_path / "run", **SMALL, gymnasium={"options": {"gravity": "strong"}})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["observation", "reward"])
def test_a_batched_world_whose_numbers_blow_up_is_named_by_lane_and_step(where: str, tmp_path: Path):
    made = pistar.make_experiment("cartpole", **{key: value for key, value in SMALL.items() if key != "quiet"})
    session = Session(made)
    world = session.environment
    session.collector.start()
    session.collector.collect(32)
    step, count = world.step, iter(range(100))

    def broken(action: Any) -> Any:
        outcome = step(action)
        if next(count) == 5:
            (outcome.observation if where == "observation" else outcome.reward)[1] = torch.nan
        return outcome

    world.step = broken  # type: ignore[method-assign]
    before = session.learner.parameters.clone()
    with pytest.raises(EnvironmentFailure, match=rf"{where} of lane 1 is not finite at step 3\d .*doctor") as caught:
        session.iterate(cut=False)
    assert caught.value.lane == 1
    assert torch.equal(session.learner.parameters, before)
    world.close()


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_a_run_whose_numbers_blow_up_stops_at_once_and_keeps_its_last_good_policy(tmp_path: Path):
    def poison(progress: pistar.Progress) -> None:
        if progress.iteration == 5:
            with torch.no_grad():
                next(progress.policy.parameters())[0] = torch.nan

    with pytest.raises(NumericalError) as caught:
        train(tmp_path / "run", on_iteration=poison)
    assert caught.value.exit_code == 3
    assert "last checkpoint stands" in str(caught.value)
    assert all(
        bool(torch.isfinite(value).all()) for name, value in weights(tmp_path / "run").items() if "bound" not in name
    )
    pistar.resume(tmp_path / "run", quiet=True)
    train(tmp_path / "whole")
    assert_equal_policies(tmp_path / "run", tmp_path / "whole")


def test_a_step_to_infinity_is_never_saved_over_a_good_state(tmp_path: Path):
    changes = {"algorithm": "a2c", "learning_rate": 1e300, "checkpoints": {"every": 1}, "steps": 256}
    small = {key: value for key, value in SMALL.items() if key not in ("ppo", "evaluation")}
    small["evaluation"] = {"episodes": 2, "every": 1, "final_episodes": 2}
    with pytest.raises(NumericalError, match=r"the parameter .* is not finite: .* lower the learning rate"):
        pistar.train(f"{__name__}:Walk", out=tmp_path / "run", **{**small, **changes})
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["iteration-00000000.safetensors"]
    assert not list((tmp_path / "run").glob("*.safetensors"))
    toml = tmp_path / "run" / "experiment.toml"
    toml.write_text(toml.read_text().replace("learning_rate = 1e+300", "learning_rate = 1e-3"))
    assert pistar.resume(tmp_path / "run", quiet=True).steps == 256


# ---- the disk --------------------------------------------------------------------------------------------------------


@contextmanager
def full_disk_for(monkeypatch: pytest.MonkeyPatch, pattern: str) -> Iterator[None]:
    """No file whose name matches can be put in its place, as where the disk is full."""
    replace = os.replace

    def refuse(source: Any, target: Any) -> None:
        if re.search(pattern, os.fspath(target)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", refuse)
        yield


@pytest.mark.parametrize("pattern", ["iteration-00000004", r"policy\.safetensors", r"best\.safetensors", r"curve\.png"])
def test_a_full_disk_names_the_file_and_the_run_goes_on_once_there_is_room(monkeypatch, tmp_path: Path, pattern: str):
    often = {"evaluation": {"episodes": 2, "every": 64, "final_episodes": 2}}
    with full_disk_for(monkeypatch, pattern), pytest.raises(StorageError, match=pattern) as caught:
        train(tmp_path / "run", **often)
    assert caught.value.exit_code == 5
    assert caught.value.errno == errno.ENOSPC
    assert "pistar resume" in str(caught.value)
    assert not [path for path in (tmp_path / "run").rglob("*") if path.suffix in (".tmp", ".partial")]
    pistar.resume(tmp_path / "run", quiet=True)
    train(tmp_path / "whole", **often)
    assert_equal_policies(tmp_path / "run", tmp_path / "whole")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        train(tmp_path / "file" / "run")


# ---- signals ---------------------------------------------------------------------------------------------------------


def test_the_first_signal_is_noted_and_the_second_ctrl_c_stops_at_once(capsys):
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.received == signal.SIGINT
        assert "once more to stop at once" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_in_python_saves_before_it_is_raised(tmp_path: Path):
    def interrupt(progress: pistar.Progress) -> None:
        if progress.iteration == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"stopped by signal 15: saved at 192 steps\. Continue with") as caught:
        train(tmp_path / "run", on_iteration=interrupt)
    assert caught.value.exit_code == 143
    pistar.resume(tmp_path / "run", quiet=True)
    train(tmp_path / "whole")
    assert_equal_policies(tmp_path / "run", tmp_path / "whole")


def test_where_only_boundaries_can_be_restored_the_steps_that_are_repeated_are_told(tmp_path: Path):
    def interrupt(progress: pistar.Progress) -> None:
        if progress.iteration == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    message = "kept the last scheduled checkpoint; 64 steps will be repeated"
    boundary = {"gymnasium": {"restoring": "boundary"}}
    with pytest.raises(Interrupted, match=message):
        train(tmp_path / "run", on_iteration=interrupt, **boundary)
    pistar.resume(tmp_path / "run", quiet=True)
    train(tmp_path / "whole", **boundary)
    assert_equal_policies(tmp_path / "run", tmp_path / "whole")


# ---- the tree --------------------------------------------------------------------------------------------------------


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    drawn = dict(re.findall(r"[├└]── (\w+) +(\d[\d, ]*)", errors.__doc__ or ""))
    classes = {name: cls for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, PistarError)}
    assert set(drawn) == set(classes) - {"PistarError"}
    for name, codes in drawn.items():
        if name != "Interrupted":
            assert classes[name].exit_code == int(codes)
    assert [Interrupted("", number).exit_code for number in (signal.SIGINT, signal.SIGTERM)] == [130, 143]


def test_nobody_raises_the_base_of_the_tree_nor_an_assertion_for_the_user():
    for file in Path(pistar.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                assert ast.unparse(node.exc.func) not in ("PistarError", "Exception", "AssertionError"), file


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [("lames", ["lanes", "steps"], "lanes"), ("zzz", ["lanes"], None), ("", ["lanes"], None), ("lanes", [], None)],
)
def test_the_nearest_name_is_near(name: str, known: list[str], expected: str | None):
    assert nearest(name, known) == expected
