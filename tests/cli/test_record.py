"""``pistar record``, and ``pistar train --demonstrations`` after it."""

import json
import tomllib
from pathlib import Path

import pytest


def test_a_baseline_is_recorded_and_cloned(pistar, tmp_path: Path):
    demos, run = tmp_path / "demos", tmp_path / "run"
    code, out, _ = pistar("record pd-controller --task arm-reach --episodes 4", "--out", demos)
    assert code == 0
    assert "4 episodes, 400 steps" in out
    about = json.loads((demos / "demonstrations.json").read_text())
    assert about["provenance"] == {"baseline": "PD controller", "seed": 0, "task": "arm-reach"}
    line = "train arm-reach --steps 128 --lanes 2 --horizon 32 --evaluation.final-episodes 2 --quiet --cloning.passes 2"
    code, _, err = pistar(f"{line} --demonstrations {demos}", "--out", run)
    assert (code, err) == (0, "")
    assert tomllib.loads((run / "experiment.toml").read_text())["cloning"]["demonstrations"] == str(demos)
    assert (run / "cloned.safetensors").exists()
    assert pistar("resume", run, "--quiet")[0] == 0


def test_a_run_is_recorded_with_its_provenance(pistar, trained: Path, tmp_path: Path):
    code, out, _ = pistar("record", trained, "--episodes", "3", "--out", tmp_path / "demos")
    assert code == 0
    assert "3 episodes" in out
    about = json.loads((tmp_path / "demos" / "demonstrations.json").read_text())
    assert about["provenance"]["policy"]["algorithm"] == "ppo"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("record", "--out is missing|usage"),
        ("record /nowhere --out x", "no such file or run"),
        ("record pd-contoller --task arm-reach --out x", "did you mean 'pd-controller'"),
        ("record random --task cartpole --episodes 0 --out x", "expected at least 1"),
        ("train cartpole --demonstrations /nowhere --out x", "holds no episodes"),
        ("train cartpole --cloning.pases 3 --out x", "did you mean"),
    ],
)
def test_mistakes_are_told(pistar, line: str, message: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = pistar(line)
    assert code == 2
    assert any(part in err for part in message.split("|"))
    assert not (tmp_path / "x").exists()
