"""Exit codes that only a process of its own can show: signals, failures of the world, of numbers and of the disk."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from pistar import artefact
from pistar.cli import main

FLAGS = "--lanes 4 --horizon 32 --ppo.epochs 1 --warm-up 0 --evaluation.every 0 --evaluation.final-episodes 2"
LONG = f"train CartPole-v1 --steps 1e8 --checkpoints.every 1000000 {FLAGS} --out"

WORLD = '''
import os
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv


class Fragile(CartPoleEnv):
    """Raises in its hundredth step while there is a file called broken."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps >= 100 and os.path.exists("broken"):
            raise RuntimeError("the motor is on fire")
        return super().step(action)
'''


def until_lines(process: subprocess.Popen[str], metrics: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= count):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def records(run: Path) -> list[dict[str, object]]:
    return [{**json.loads(line), "time": None} for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_ctrl_c_saves_and_the_run_goes_on_as_if_there_had_been_none(started, tmp_path: Path):
    run = tmp_path / "run"
    process = started(LONG, run)
    until_lines(process, run / "metrics.jsonl", 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert f"Continue with `pistar resume {run}`" in err
    assert "Traceback" not in err
    steps = records(run)[-1]["steps"]
    assert f"stopped by signal 2: saved at {steps} steps" in err

    toml = run / "experiment.toml"  # the rest of a hundred million steps would take too long
    total = int(steps) + 512
    text = toml.read_text().replace("steps = 100000000\n", f"steps = {total}\n")
    toml.write_text(text.replace('schedule_steps = "none"\n', "schedule_steps = 100000000\n"))
    assert main(["resume", str(run), "--quiet"]) == 0
    whole = f"train CartPole-v1 --steps {total} --schedule-steps 1e8 --checkpoints.every 1000000 {FLAGS} --quiet --out"
    assert main([*whole.split(), str(tmp_path / "whole")]) == 0
    assert records(run) == records(tmp_path / "whole")
    mine, theirs = (artefact.load(path).state_dict() for path in (run, tmp_path / "whole"))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert (run / "policy.safetensors").read_bytes() == (tmp_path / "whole" / "policy.safetensors").read_bytes()


def test_sigterm_ends_all_seeds_and_those_that_were_not_started_are_named(started, tmp_path: Path):
    process = started(LONG, tmp_path / "many", "--seeds", "3", "--seed", "7")
    until_lines(process, tmp_path / "many" / "seed-7" / "metrics.jsonl", 1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Not started: 2 seeds, from --seed 8 on" in err


def test_a_world_that_fails_ends_with_code_4_and_is_gone_on_with_once_it_is_repaired(
    started, tmp_path: Path, monkeypatch
):
    (tmp_path / "fragile.py").write_text(WORLD)
    (tmp_path / "broken").touch()
    process = started(f"train fragile:Fragile --steps 1024 --checkpoints.every 1 {FLAGS} --out run", cwd=tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "pistar: error: fragile:Fragile, lane 0, step 99: step raised RuntimeError: the motor is on fire" in err
    assert "fragile.py" in err  # the line of the user's own code
    assert "pistar/" not in err.split("fragile:Fragile", 1)[1].replace("/pistar/", "")
    assert len(records(tmp_path / "run")) == 3
    (tmp_path / "broken").unlink()
    monkeypatch.chdir(tmp_path)
    assert main(["resume", "run", "--quiet"]) == 0
    whole = f"train fragile:Fragile --steps 1024 --checkpoints.every 1 {FLAGS} --quiet --out whole"
    assert main(whole.split()) == 0
    assert records(tmp_path / "run") == records(tmp_path / "whole")


def test_numbers_that_grow_beyond_all_bounds_end_with_code_3(pistar, tmp_path: Path):
    run = tmp_path / "run"
    code, out, err = pistar(
        f"train CartPole-v1 --steps 1e5 --learning-rate 1e300 --checkpoints.every 1 {FLAGS} --out", run
    )
    assert (code, out) == (3, "")
    assert "is not finite" in err
    assert "ower the learning rate" in err
    assert list((run / "checkpoints").glob("*.safetensors"))


def test_a_disk_that_is_full_ends_with_code_5_and_the_run_goes_on_once_there_is_room(tmp_path: Path, capsys):
    run = tmp_path / "run"
    line = f"train CartPole-v1 --steps 1024 --checkpoints.every 2 --mlp.hidden 8 {FLAGS} --quiet --out"
    command = [sys.executable, "-m", "pistar", *line.split(), str(run)]
    assert main([*line.split(), str(tmp_path / "whole")]) == 0
    # The optimizer's moments make every checkpoint longer than that of iteration 0, the only one that fits.
    size = min(path.stat().st_size for path in (tmp_path / "whole" / "checkpoints").iterdir())
    limit = (size - 1, resource.RLIM_INFINITY)
    process = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert process.returncode == 5, process.stderr
    assert "cannot write" in process.stderr
    assert str(run / "checkpoints") in process.stderr
    assert "`pistar resume`" in process.stderr
    assert "Traceback" not in process.stderr
    assert not list((run / "checkpoints").glob(".*"))  # nothing half written is left
    assert main(["resume", str(run), "--quiet"]) == 0
    assert records(run) == records(tmp_path / "whole")
    capsys.readouterr()


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m pistar algorithms ppo | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_a_terminal_without_greek_letters_still_gets_the_text():
    done = subprocess.run(
        [sys.executable, "-m", "pistar", "algorithms", "ppo"],
        capture_output=True,
        check=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": ""},
    )
    assert b"--ppo.discount" in done.stdout
