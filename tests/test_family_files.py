"""Policies of every family in files and in runs: they come back, go on bit for bit, and import nothing that is not trusted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from resume.equality import assert_equal_runs

import pistar
from pistar import artefact, training
from pistar.envs.environment import Spaces
from pistar.errors import ArtefactError
from pistar.families import FAMILIES
from pistar.policies.mlp import MLP
from pistar.policy import Policy

NUMBERS = spaces.Box(-2.0, 2.0, (3,), np.float32)
PAIR = spaces.Dict({"gear": spaces.Discrete(2), "pedal": NUMBERS, "wheel": NUMBERS})
SETTINGS: dict[str, Any] = {
    "lanes": 4,
    "horizon": 16,
    "steps": 6 * 64,
    "warm_up": 32,
    "evaluation": {"every": 128, "episodes": 2, "final_episodes": 2},
    "checkpoints": {"every": 2},
    "quiet": True,
}


def acted(policy: Policy) -> list[np.ndarray]:
    observation = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    generator = torch.Generator().manual_seed(0)
    both = [policy.act(observation, deterministic=flag, generator=generator)[0] for flag in (True, False)]
    return [np.asarray(leaf) for each in both for leaf in (each.values() if isinstance(each, dict) else [each])]


def shaken(kind: MLP, action: Any) -> Policy:
    policy = kind.build(Spaces(NUMBERS, action), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return policy


@pytest.mark.parametrize("name", FAMILIES.names())
def test_a_policy_of_every_family_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    kinds = [(MLP(distribution=name, redraw=3), NUMBERS), (MLP(distributions={"pedal": name}), PAIR)]
    for kind, action in kinds:
        policy = shaken(kind, action)
        artefact.save(policy, tmp_path / "p.safetensors")
        again = artefact.load(tmp_path / "p.safetensors")
        assert again.kind == kind
        for mine, theirs in zip(acted(policy), acted(again), strict=True):
            assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("name", FAMILIES.names())
def test_a_run_of_every_family_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def die(progress: training.Progress) -> bool:
        if progress.iteration == 4:
            raise Stop
        return False

    settings = {**SETTINGS, "mlp": {"distribution": name, "hidden": [8], "redraw": 5}}
    pistar.train("pendulum", out=tmp_path / "whole", **settings)
    with pytest.raises(Stop):
        pistar.train("pendulum", out=tmp_path / "broken", on_iteration=die, **settings)
    pistar.resume(tmp_path / "broken", quiet=True)
    assert_equal_runs(tmp_path / "whole", tmp_path / "broken")


FAMILY = """
from pathlib import Path
from pistar.heads import GaussianHead

Path(__file__).with_name("imported").touch()


class MyHead(GaussianHead):
    pass
"""


def test_a_family_of_ones_own_is_imported_only_where_it_is_trusted(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "my_family.py").write_text(FAMILY)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "my_family:MyHead"
    for kind, action in ((MLP(distribution=name), NUMBERS), (MLP(distributions={"wheel": name}), PAIR)):
        policy = shaken(kind, action)
        artefact.save(policy, tmp_path / "p.safetensors")
        sys.modules.pop("my_family")
        (tmp_path / "imported").unlink()
        with pytest.raises(ArtefactError, match=r"nothing was imported.*--trust my_family:MyHead"):
            artefact.load(tmp_path / "p.safetensors")
        assert not (tmp_path / "imported").exists()
        again = artefact.load(tmp_path / "p.safetensors", trust=name)
        for mine, theirs in zip(acted(policy), acted(again), strict=True):
            assert np.array_equal(mine, theirs)
    sys.modules.pop("my_family")
