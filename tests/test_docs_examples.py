"""The documented examples work: the blocks that pages print run, and the example files do what their pages say."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import pistar
from pistar.doctor import examine
from pistar.testing import check_environment
from pistar.training import Result

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").rglob("*.md")])
SHORT = {"every": 0, "final_episodes": 20}
MODULES = [file.stem for file in EXAMPLES.glob("*.py")]


@pytest.fixture(autouse=True)
def beside_the_examples(tmp_path, monkeypatch) -> Iterator[None]:
    """Examples can be imported as from their directory; runs go to a place of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    for name in MODULES:
        sys.modules.pop(name, None)


def printed_programs() -> list[object]:
    """Python blocks of all pages that are whole programs: those that do not name the file that they quote."""
    found = []
    for page in PAGES:
        if page.name == "README.zh-CN.md":  # its blocks are those of README.md; see test_docs.py
            continue
        for number, text in enumerate(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S)):
            if not text.startswith("# "):
                found.append(pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}"))
    return found


@pytest.mark.parametrize("program", printed_programs())
def test_a_printed_program_runs_as_it_is(program: str, capsys):
    exec(compile(program.replace("steps=50_000", "steps=2_048"), "block", "exec"), {})


def test_some_programs_were_found():
    assert len(printed_programs()) >= 4


def trained(task: str | pistar.Task, **settings: object) -> Result:
    return pistar.train(task, out="run", quiet=True, evaluation=SHORT, **settings)


def test_the_lever_is_healthy_and_its_wheel_can_be_read():
    assert examine("lever:Lever").healthy
    judged = trained("lever:Lever", steps=12_288).evaluation
    assert judged.interval[0] > judged.baselines["random"].mean + 20


def test_the_task_learns_what_it_says_and_has_its_settings():
    thermostat = importlib.import_module("thermostat_task").Thermostat
    judged = trained(thermostat(leak=0.06), steps=12_288).evaluation
    assert judged.task == "thermostat_task:Thermostat"
    assert judged.baselines["proportional"].mean > judged.baselines["zero action"].mean
    assert judged.baselines["zero action"].difference > 100
    assert judged.success is not None
    with pytest.raises(pistar.PistarError, match="leak"):
        thermostat(leak=2.0)


def test_the_room_keeps_the_contract_and_lets_gradients_through():
    room = importlib.import_module("thermostat").Room
    check_environment(room, steps=250)
    world, environment = {"error": torch.tensor([4.0]), "heat": torch.tensor([0.0])}, room(1)
    actions = torch.zeros(5, 1, 1, requires_grad=True)
    rewards, _ = environment.unroll(world, actions)
    rewards.sum().backward()
    assert (actions.grad[:4] < 0).all()  # a room that is too warm gains by less heat


def test_the_penalty_moves_and_is_part_of_the_checkpoint():
    class Stop(Exception):
        pass

    seen: list[float] = []

    def watch(progress: pistar.Progress) -> None:
        seen.append(progress.record["update/penalty"])
        if progress.iteration == 4:
            raise Stop

    settings = {"algorithm": "kl_penalty:KLPenalty", "steps": 6 * 1024, "checkpoints": {"every": 2}}
    with pytest.raises(Stop):
        pistar.train("cartpole", out="killed", quiet=True, on_iteration=watch, evaluation=SHORT, **settings)
    resumed = pistar.resume("killed", quiet=True)
    whole = trained("cartpole", **settings)
    assert len(set(seen)) > 1
    for mine, theirs in zip(resumed.policy.parameters(), whole.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_walk_keeps_the_contract_and_the_wrapper_multiplies():
    walk = importlib.import_module("walk")
    check_environment(lambda lanes: walk.Hurry(walk.Walk(lanes), 2.0))
    plain, hurried = walk.Walk(3), walk.Hurry(walk.Walk(3), 2.0)
    for environment in (plain, hurried):
        environment.reset(5)
    action = torch.tensor([0, 1, 1])
    assert torch.equal(2.0 * plain.step(action).reward, hurried.step(action).reward)


def test_walkers_go_to_the_nearer_exit():
    policy = trained("walk:WalkTask", steps=12_288).policy
    sides, _ = policy.act(np.array([[-0.75], [0.75]], np.float32))
    assert sides.tolist() == [0, 1]


def test_a_distribution_from_outside_learns_and_its_file_is_loaded_where_it_is_trusted():
    laplace = importlib.import_module("laplace")
    result = trained("thermostat_task:Thermostat", mlp={"distribution": "laplace:LaplaceHead"}, steps=12_288)
    assert isinstance(result.policy.head, laplace.LaplaceHead)
    assert result.evaluation.baselines["zero action"].difference > 100
    with pytest.raises(pistar.PistarError, match="--trust laplace:LaplaceHead"):
        pistar.load("run")
    again = pistar.load("run", trust="laplace:LaplaceHead")
    seen = result.policy.spaces.observation.sample()
    assert np.array_equal(again.act(seen)[0], result.policy.act(seen)[0])


def test_the_mirror_tells_milestones():
    trained("cartpole", steps=20_480, reporting={"to": ["milestones:Milestones"]})
    lines = Path("run/milestones.txt").read_text().splitlines()
    assert lines
    assert lines[0].endswith(" steps: 100")
