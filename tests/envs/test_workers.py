"""Lanes in worker processes: bit for bit those of one process, and no process, pipe or memory left behind.

What goes wrong in a worker reaches the caller with lane, step and traceback, in the words of `gym_lanes`; a worker that is
killed, hangs or outlives its parent is tested with real processes.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from worlds import Dice, Keeper, Signals, Victim, many_scalars

from pistar.envs.gym_lanes import GymnasiumLanes
from pistar.envs.workers import WorkerLanes
from pistar.errors import EnvironmentFailure, UnknownName, UsageError
from pistar.seeding import episode_seed
from pistar.testing import check_environment
from pistar.testing.environments.recording import copied, difference, first_difference, go_on, random_actions

LANES = 5
HERE = Path(__file__).parent
requires_proc = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")


def children() -> set[int]:
    """Process ids of this process's children, the dead ones that nobody waited for included."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = path.read_text().partition(" (")
        except OSError:
            continue
        if int(rest.rpartition(")")[2].split()[1]) == os.getpid():
            found.add(int(number))
    return found


def segments(process: int | str) -> set[str]:
    """Inodes of the anonymous memory that a process has mapped or open; empty where it is gone."""
    found = set()
    try:
        lines = Path(f"/proc/{process}/maps").read_text().splitlines()
        found = {line.split()[4] for line in lines if "/memfd:pistar" in line}
        for entry in os.listdir(f"/proc/{process}/fd"):
            if "/memfd:pistar" in os.readlink(f"/proc/{process}/fd/{entry}"):
                found.add(str(os.stat(f"/proc/{process}/fd/{entry}").st_ino))
    except OSError:
        pass
    return found


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def seconds_until(condition: Callable[[], bool], limit: float) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + limit, f"not within {limit} s"
        time.sleep(0.02)
    return time.monotonic() - start


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> Iterator[None]:
    """What was imported is not gone through at every `gc.collect`."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Every test here ends without a child, a descriptor or a piece of shared memory more than it began with."""
    if not Path("/proc/self/maps").exists():
        yield
        return
    gc.collect()
    before = children(), descriptors(), segments("self"), set(os.listdir("/dev/shm"))
    yield
    gc.collect()
    assert (children(), descriptors(), segments("self")) == before[:3]
    assert not [name for name in set(os.listdir("/dev/shm")) - before[3] if "pistar" in name]


# The same lanes


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_workers_give_what_one_process_gives(workers: int, start_method: Any) -> None:
    target = "worlds:Signals"
    with (
        closing(GymnasiumLanes(target, LANES, lane_offset=2)) as alone,
        closing(WorkerLanes(target, LANES, workers, start_method=start_method, lane_offset=2)) as shared,
    ):
        assert shared.spaces == alone.spaces
        actions = random_actions(alone, 60, 0)
        for seed in (0, 7):
            assert difference(copied(alone.reset(seed)), copied(shared.reset(seed))) is None
            one, two = go_on(alone, actions[:30]), go_on(shared, actions[:30])
            assert [list(entry.info) for entry in one] == [list(entry.info) for entry in two]
            assert first_difference(one, two) is None
            chosen = torch.tensor([True, False, False, True, False])
            assert difference(copied(alone.cut(chosen)), copied(shared.cut(chosen))) is None
            assert first_difference(go_on(alone, actions[30:]), go_on(shared, actions[30:])) is None


def test_scalars_may_appear_late_and_in_another_order_in_every_worker() -> None:
    """Lanes whose first seeds ask for the two orders of `Signals`, in different workers."""
    seed = next(s for s in range(200) if [episode_seed(s, b, 0) % 3 for b in range(2)] == [0, 1])
    with closing(WorkerLanes(Signals, 2, 2)) as shared, closing(GymnasiumLanes(Signals, 2)) as alone:
        shared.reset(seed)
        alone.reset(seed)
        seen = []
        for action in random_actions(alone, 40, 3):
            one, two = alone.step(action), shared.step(action)
            seen.append(list(two.info))
            assert list(one.info) == seen[-1]
            for name, values in one.info.items():
                torch.testing.assert_close(values, two.info[name], rtol=0, atol=0, equal_nan=True)
        orders = shared._pool.names
        assert orders[0] != orders[1][: len(orders[0])]
        assert "late" in seen[-1] or any("late" in names for names in seen[4:])
        assert "late" not in seen[0]


def test_workers_keep_the_contract() -> None:
    check_environment(lambda lanes: WorkerLanes(Signals, lanes, 2), lanes=2, steps=24)


def test_the_state_belongs_to_the_lanes_not_to_the_workers() -> None:
    with (
        closing(WorkerLanes(Signals, LANES, 3)) as first,
        closing(WorkerLanes(Signals, LANES, 2)) as second,
        closing(GymnasiumLanes(Signals, LANES)) as third,
    ):
        first.reset(3)
        actions = random_actions(first, 50, 4)
        observation = go_on(first, actions[:23])[-1].observation
        state = first.save()
        for other in (second, third):
            assert difference(observation, copied(other.restore(state))) is None
        after = [go_on(each, actions[23:]) for each in (first, second, third)]
        assert first_difference(after[0], after[1]) is None
        assert first_difference(after[0], after[2]) is None
        np.testing.assert_equal(second.save(), third.save())


def test_restoring_what_is_not_deterministic_names_lane_and_remedy() -> None:
    with closing(WorkerLanes(Dice, 3, 2)) as first, closing(WorkerLanes(Dice, 3, 2)) as second:
        first.reset(0)
        first.step(torch.zeros(3, dtype=torch.int64))
        state = first.save()
        with pytest.raises(EnvironmentFailure, match=r'Dice, lane 0, step 1: .*"boundary"'):
            second.restore(state)


def test_options_reach_a_spawned_worker_exactly() -> None:
    options = {"weights": np.array([0.1, 1 / 3]), "gain": 2.7, "tail": float("inf")}
    with (
        closing(GymnasiumLanes("worlds:Signals", 2, options=options)) as alone,
        closing(WorkerLanes(Signals, 2, 2, start_method="spawn", options=options)) as shared,
    ):
        alone.reset(0)
        shared.reset(0)
        actions = random_actions(alone, 10, 0)
        assert first_difference(go_on(alone, actions), go_on(shared, actions)) is None


def test_an_environment_may_keep_its_actions() -> None:
    with closing(WorkerLanes(Keeper, 2, 2)) as environment:
        environment.reset(0)
        action = torch.rand(2, 2)
        first = action.clone()
        for _ in range(4):
            assert torch.equal(environment.step(action).observation, first)
            action.uniform_()


def test_more_workers_than_lanes_are_not_started() -> None:
    with closing(WorkerLanes(Victim, 2, 8)) as environment:
        assert len(pids(environment)) == 2


# What goes wrong in an environment


FAULTS = [
    "raise",
    "exit",
    "nan observation",
    "final nan",
    "nan reward",
    "shape",
    "dtype",
    "none",
    "flag",
    "four",
    "reset",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_reaches_the_caller_as_it_does_in_one_process(fault: str) -> None:
    options = {"fault": fault, "seed": episode_seed(1, 12, 0), "at": 3}

    def failure(make: Callable[[], Any]) -> EnvironmentFailure:
        with closing(make()) as environment:
            environment.reset(1)
            for _ in range(3):
                environment.step(torch.zeros(4, dtype=torch.int64))
            with pytest.raises(EnvironmentFailure) as caught:
                environment.step(torch.zeros(4, dtype=torch.int64))
        return caught.value

    alone = failure(lambda: GymnasiumLanes(Victim, 4, lane_offset=10, options=options))
    shared = failure(lambda: WorkerLanes(Victim, 4, 2, lane_offset=10, options=options))
    assert str(shared) == str(alone)
    assert (shared.lane, shared.step) == (12, 3)
    if fault == "raise":
        assert "Traceback" in str(shared)
        assert 'raise ValueError("the motor is stuck")' in str(shared)


def test_the_lowest_lane_is_named_where_several_fail() -> None:
    class Doomed(Victim):
        def step(self, action: Any) -> Any:
            raise ValueError(f"lane {self.first}")

    with closing(WorkerLanes(Doomed, 4, 3)) as environment:
        environment.reset(0)
        with pytest.raises(
            EnvironmentFailure, match=f"lane 0, step 0: step raised ValueError: lane {episode_seed(0, 0, 0)}"
        ):
            environment.step(torch.zeros(4, dtype=torch.int64))


def test_a_reset_goes_on_after_a_fault() -> None:
    options = {"fault": "nan reward", "seed": episode_seed(0, 1, 0), "at": 0}
    with closing(WorkerLanes(Victim, 2, 2, options=options)) as environment:
        environment.reset(0)
        action = torch.zeros(2, dtype=torch.int64)
        with pytest.raises(EnvironmentFailure, match="lane 1, step 0: reward is nan"):
            environment.step(action)
        environment.cut(torch.tensor([False, True]))
        environment.reset(0)
        assert environment.step(action).reward.tolist() == [1, 1]


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_an_environment_that_cannot_be_made_leaves_no_process(start_method: Any) -> None:
    with pytest.raises(EnvironmentFailure, match="constructor raised ValueError: no such motor"):
        WorkerLanes(Victim, 4, 2, start_method=start_method, options={"fault": "constructor"})


def test_what_a_worker_said_before_it_ended_counts_though_others_are_at_work(tmp_path: Path) -> None:
    class FirstFails(Victim):
        def __init__(self) -> None:
            super().__init__()
            try:
                (tmp_path / "here").touch(exist_ok=False)
            except FileExistsError:
                time.sleep(0.3)
            else:
                raise ValueError("no such motor")

    with pytest.raises(EnvironmentFailure, match="constructor raised ValueError: no such motor"):
        WorkerLanes(FirstFails, 2, 2)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: WorkerLanes("CartPoel-v1", 2, 2), UnknownName, "CartPole"),
        (lambda: WorkerLanes(Victim, 2, 0), UsageError, "workers is 0"),
        (lambda: WorkerLanes(Victim, 2, 2, start_method="thread"), UsageError, "'fork' or 'spawn'"),  # type: ignore[arg-type]
        (lambda: WorkerLanes(lambda: Victim(), 2, 2, start_method="spawn"), UsageError, "cannot import"),
        (lambda: WorkerLanes(Victim, 2, 2, start_method="spawn", options={"fault": {1}}), UsageError, "cannot be sent"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(make: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_too_many_scalars_are_refused() -> None:
    with closing(WorkerLanes(many_scalars, 1, 1)) as environment:
        environment.reset(0)
        with pytest.raises(UsageError, match="more than 512 different scalars"):
            environment.step(torch.zeros(1, dtype=torch.int64))


# Workers that die, hang, or are signalled


def pids(environment: WorkerLanes) -> list[int]:
    return [member.process.pid for member in environment._pool.members]


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_a_killed_worker_is_noticed_within_seconds(start_method: Any) -> None:
    with closing(WorkerLanes(Victim, 4, 2, start_method=start_method)) as environment:
        environment.reset(0)
        action = torch.zeros(4, dtype=torch.int64)
        environment.step(action)
        victim = pids(environment)[1]
        os.kill(victim, signal.SIGKILL)
        start = time.monotonic()
        with pytest.raises(
            EnvironmentFailure, match=r"worker 1 \(lanes 2 to 3, process \d+\) died: .*\(SIGKILL"
        ) as caught:
            environment.step(action)
        assert time.monotonic() - start < 3
        assert str(victim) in str(caught.value)
        assert caught.value.step == 1
        with pytest.raises(UsageError, match="is closed"):
            environment.step(action)


@pytest.mark.parametrize(
    ("fault", "words"), [("kill", "SIGKILL, which the system sends"), ("leave", "exited with code 7")]
)
def test_an_environment_that_ends_its_process_is_named(fault: str, words: str) -> None:
    options = {"fault": fault, "seed": episode_seed(0, 3, 0), "at": 2}
    with closing(WorkerLanes(Victim, 4, 2, options=options)) as environment:
        environment.reset(0)
        for _ in range(2):
            environment.step(torch.zeros(4, dtype=torch.int64))
        start = time.monotonic()
        with pytest.raises(EnvironmentFailure, match=words) as caught:
            environment.step(torch.zeros(4, dtype=torch.int64))
        assert (caught.value.lane, caught.value.step) == (3, 2)
        assert time.monotonic() - start < 3


def test_a_worker_that_hangs_is_given_up() -> None:
    options = {"fault": "hang", "seed": episode_seed(0, 1, 0), "at": 0}
    environment = WorkerLanes(Victim, 4, 2, options=options, timeout=0.5)
    environment.reset(0)
    start = time.monotonic()
    with pytest.raises(EnvironmentFailure, match=r"lane 1, step 0: worker 0 .* has not answered for 0.5 s") as caught:
        environment.step(torch.zeros(4, dtype=torch.int64))
    assert caught.value.lane == 1
    assert time.monotonic() - start < 5


def test_a_slow_environment_is_not_taken_for_one_that_hangs() -> None:
    """Lanes of 0.4 s each, together longer than the time-out, which is for a single call."""
    with closing(WorkerLanes(Victim, 4, 1, options={"pause": 0.4}, timeout=0.8)) as environment:
        environment.reset(0)
        environment.step(torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_signals_of_a_terminal_do_not_end_workers(number: int, start_method: Any) -> None:
    with closing(WorkerLanes(Victim, 2, 2, start_method=start_method)) as environment:
        environment.reset(0)
        for process in pids(environment):
            os.kill(process, number)
        for _ in range(3):
            environment.step(torch.zeros(2, dtype=torch.int64))


# Nothing is left


@requires_proc
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_closing_leaves_no_process_and_no_memory(start_method: Any) -> None:
    environment = WorkerLanes(Victim, 4, 2, start_method=start_method)
    environment.reset(0)
    environment.step(torch.zeros(4, dtype=torch.int64))
    processes = pids(environment)
    assert set(processes) <= children()
    memory = segments("self")
    assert len(memory) == 1
    assert [segments(process) for process in processes] == [memory, memory]
    environment.close()
    environment.close()
    assert not [process for process in processes if Path(f"/proc/{process}").exists()]
    with pytest.raises(UsageError, match="is closed"):
        environment.reset(0)
    del environment
    gc.collect()
    assert segments("self") == set()


@requires_proc
def test_an_environment_that_was_only_forgotten_ends_its_workers() -> None:
    environment = WorkerLanes(Victim, 2, 2)
    processes = pids(environment)
    del environment
    gc.collect()
    seconds_until(lambda: not any(Path(f"/proc/{process}").exists() for process in processes), 5)


@requires_proc
def test_a_fork_of_the_learning_process_ends_no_worker() -> None:
    with closing(WorkerLanes(Victim, 2, 2)) as environment:
        environment.reset(0)
        child = os.fork()
        if child == 0:
            environment.close()
            os._exit(0)
        os.waitpid(child, 0)
        environment.step(torch.zeros(2, dtype=torch.int64))


PARENT = """
import sys, threading, time
sys.path.insert(0, {here!r})
import torch
from pistar.envs.workers import WorkerLanes

def work():
    environment = WorkerLanes("worlds:Victim", 4, 2, start_method={method!r}, options={{"pause": {pause}}})
    environment.reset(0)
    print(*[member.process.pid for member in environment._pool.members], flush=True)
    while True:
        environment.step(torch.zeros(4, dtype=torch.int64))
        time.sleep({idle})

if __name__ == "__main__":
    if {thread}:
        threading.Thread(target=work).start()
    else:
        work()
"""


@requires_proc
@pytest.mark.parametrize(
    ("method", "thread", "pause", "idle"),
    [
        ("fork", False, 0.0, 0.0),  # killed at any point of a busy exchange
        ("fork", False, 0.0, 60.0),  # workers wait for a command
        ("fork", True, 30.0, 0.0),  # workers are within a step; no signal of the kernel tells them
        ("spawn", False, 30.0, 0.0),
    ],
)
def test_nothing_outlives_a_parent_killed_with_kill_9(method: str, thread: bool, pause: float, idle: float) -> None:
    program = PARENT.format(here=str(HERE), method=method, thread=thread, pause=pause, idle=idle)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    before = set(os.listdir("/dev/shm"))
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    try:
        processes = [int(word) for word in parent.stdout.readline().split()]
        assert len(processes) == 2
        time.sleep(0.2)
        memory = segments(processes[0])
        assert len(memory) == 1
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    seconds_until(lambda: not any(alive(process) for process in processes), 5)
    everyone = [path.name for path in Path("/proc").glob("[0-9]*")]
    assert not any(memory & segments(process) for process in everyone)
    assert not [name for name in set(os.listdir("/dev/shm")) - before if "pistar" in name]


def alive(process: int) -> bool:
    """Whether it runs; a zombie that its new parent has not waited for yet does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_can_be_started_from_a_thread_that_ends() -> None:
    made: list[WorkerLanes] = []
    thread = threading.Thread(target=lambda: made.append(WorkerLanes(Victim, 2, 2)))
    thread.start()
    thread.join()
    with closing(made.pop()) as environment:
        time.sleep(0.1)
        environment.reset(0)
        environment.step(torch.zeros(2, dtype=torch.int64))
