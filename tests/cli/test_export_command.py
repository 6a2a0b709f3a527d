"""`pistar export`: where the file goes, what is said, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

import pistar.export
from pistar import artefact
from pistar.cli import main
from pistar.envs.environment import Spaces
from pistar.export import ExportedPolicy
from pistar.policies.mlp import MLP

TOLD = spaces.Dict({"seen": spaces.Box(-1.0, 1.0, (2,), np.float32), "told": spaces.Discrete(3)})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    kind = MLP(actor_keys=("seen",), critic_keys=("seen", "told"), memory="gru", memory_size=4, hidden=(4,))
    policy = kind.build(Spaces(TOLD, spaces.Discrete(3)), torch.Generator().manual_seed(0))
    for name in ("policy", "best"):
        artefact.save(
            policy, tmp_path / f"{name}.safetensors", {"task": {"kind": "gymnasium", "id": "A-v1"}, "steps": 12}
        )
    return tmp_path


def test_it_says_what_it_wrote(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    for words in (
        f"{run / 'policy.onnx'} · ",
        "A-v1 · inside: normaliser, memory, action post-processing",
        "equal to the torch policy on 4,808 observations in 200 steps",
        "in   memory.actor  float32 [N, 4]",
        "out  distribution.probability  float32 [N, 3]",
        "not read: told",
    ):
        assert words in said.out
    assert ExportedPolicy.load(run / "policy.onnx").metadata["task"] == "A-v1"
    assert main(["export", str(run / "best.safetensors")]) == 0
    assert (run / "best.onnx").exists()


def test_a_missing_package_is_named_with_its_extra(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    assert main(["export", str(run)]) == 2
    assert 'pip install "pistar[export]"' in capsys.readouterr().err
    assert not (run / "policy.onnx").exists()


def test_a_damaged_policy_file_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run / "policy.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    assert main(["export", str(run), "--out", str(run / "a.onnx")]) == 2
    assert "does not match its checksum" in capsys.readouterr().err
    assert not (run / "a.onnx").exists()


def test_public_names_are_there() -> None:
    assert all(hasattr(pistar.export, name) for name in pistar.export.__all__)
