"""What is answered at once: help, listings and errors of usage import neither torch nor a simulator."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

CONSOLE = Path(sys.executable).with_name("pistar")  # the installed script, where there is one
COMMAND = [str(CONSOLE)] if CONSOLE.exists() else [sys.executable, "-m", "pistar"]

# Run each command line with imports of what is slow forbidden; print the exit codes.
GUARD = """
import contextlib, io, sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise AssertionError(f"{name} is imported by: pistar {' '.join(line)}")

sys.meta_path.insert(0, Forbid())
from pistar.cli import main
for line in LINES:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = main(line)
    print(code)
"""


def exit_codes(lines: list[str], *forbidden: str) -> list[int]:
    words = f"FORBIDDEN, LINES = {set(forbidden)!r}, {[line.split() for line in lines]!r}\n"
    done = subprocess.run([sys.executable, "-c", words + GUARD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [int(code) for code in done.stdout.split()]


HELP = [
    "--help",
    "--version",
    "help train",
    "tasks",
    "tasks reacher",
    "tasks cartpole",
    "tasks gymnasium",
    "algorithms",
]
HELP += [f"algorithms {name}" for name in ("reinforce", "a2c", "ppo", "ppo-penalty", "spo", "npg", "trpo")]
HELP += ["algorithms distillation"]
HELP += [
    f"{command} --help"
    for command in (
        "train",
        "resume",
        "evaluate",
        "watch",
        "export",
        "record",
        "compare",
        "report",
        "serve",
        "tasks",
        "algorithms",
        "tune",
        "doctor",
    )
]
HELP += [
    "train reacher --help",
    "train cartpole --algorithm a2c --lanes 4 --help",
    "train reacher --algorithm trpo --help",
]

MISTAKES = ["", "trian", "--lanes 3", "train", "train a b", "train reachr", "train cartpole --lanse 2"]
MISTAKES += [
    "train reacher --lanes x",
    "train reacher --lanes 0",
    "train reacher --ppo.klip 1",
    "train reacher --clip 1",
]
MISTAKES += ["train reacher --a2c.trace 1", "train reacher --algorithm pop", "train reacher --policy mpl"]
MISTAKES += ["train reacher --config /nowhere.toml", "train reacher --from /nowhere", "train reacher --out /tmp"]
MISTAKES += [
    "train reacher --ppo.epochs 0",
    "train reacher --mlp.hidden 0",
    "train reacher --learning-rate 1:0:exponential",
]
MISTAKES += ["train reacher --time-limit x", "train reacher --seeds 0", "train gymnasium"]
MISTAKES += ["resume", "resume /nowhere", "resume /tmp", "resume /nowhere --stpes 3"]
MISTAKES += ["evaluate", "evaluate /nowhere", "evaluate /tmp", "watch /nowhere", "watch /tmp --fps 0", "tasks reachr"]
MISTAKES += [
    "serve",
    "serve /nowhere",
    "serve a b",
    "serve /tmp --port 99999",
    "serve /tmp --timeout 0",
    "serve /tmp --prot 1",
]
MISTAKES += ["export", "export /nowhere", "export /tmp", "export /tmp --out policy.pt"]
MISTAKES += ["record", "record /nowhere --out x", "train cartpole --cloning.pases 3"]
MISTAKES += ["tune", "tune cartpol", "tune cartpole --trials 0", "tune cartpole --seeds 0", "tune --resume /nowhere"]
MISTAKES += ["tune cartpole --search ppo.klip", "tune cartpole --storage redis://x", "tune cartpole --stop-at 3"]
MISTAKES += [
    "compare",
    "compare /nowhere",
    "compare /tmp --out x.gif",
    "report",
    "report /nowhere",
    "report /tmp --out x",
]
MISTAKES += ["algorithms pop", "doctor", "doctor CartPole-v1 --steps 0"]

# Whether Gymnasium knows an id, only Gymnasium can tell; torch is not needed for that either.
MISTAKES_IN_GYMNASIUM = ["train CartPol-v1", "train CartPole-v1 --lanse 2", "train CartPole-v1 --a2c.trace 1"]
MISTAKES_IN_GYMNASIUM += [
    "train CartPole-v1 --lanes 0",
    "train CartPole-v1 --algorithm pop",
    "train CartPole-v1 --out /tmp",
]


def test_help_and_listings_import_neither_torch_nor_gymnasium():
    assert exit_codes(HELP, "torch", "numpy", "gymnasium", "mujoco", "matplotlib", "tensorboard") == [0] * len(HELP)


def test_errors_of_usage_import_no_torch():
    assert exit_codes(MISTAKES, "torch", "gymnasium", "mujoco") == [2] * len(MISTAKES)
    assert exit_codes(MISTAKES_IN_GYMNASIUM, "torch") == [2] * len(MISTAKES_IN_GYMNASIUM)


def test_comparisons_and_reports_import_no_torch(tmp_path: Path):
    for seed in range(2):
        run = tmp_path / f"seed-{seed}"
        run.mkdir()
        (run / "experiment.toml").write_text(f'[task]\nkind = "cartpole"\n[training]\nseed = {seed}\n')
        (run / "evaluations.jsonl").write_text('{"steps": 9, "mean": 1.0, "final": true}\n')
        (run / "metrics.jsonl").write_text('{"steps": 9, "return": 1.0}\n')
    lines = [f"compare {tmp_path} --out {tmp_path / 'c.png'}", f"report {tmp_path}"]
    assert exit_codes(lines, "torch", "gymnasium", "mujoco") == [0, 0]


def test_the_guard_would_notice_torch(tmp_path: Path):
    with pytest.raises(AssertionError, match="torch is imported by: pistar train CartPole-v1"):
        exit_codes([f"train CartPole-v1 --steps 1 --out {tmp_path / 'run'}"], "torch")


def test_help_appears_within_a_fifth_of_a_second():
    fastest = float("inf")
    for _ in range(25):  # the least of several: what else the machine does can only add to it
        began = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], check=True, capture_output=True)
        fastest = min(fastest, time.perf_counter() - began)
        if fastest < 0.2:
            break
    assert fastest < 0.2
