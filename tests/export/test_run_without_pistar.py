"""The example that runs a file by onnxruntime and NumPy alone does as the policy does, where neither pistar nor torch can be had."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policies_to_export import exported, look

from pistar.tree import leaves, map_leaves

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "run_policy.py"

ALONE = """
import sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pistar", "torch", "gymnasium", "onnx", "onnxscript", "safetensors"):
            raise ImportError(f"{name} is not to be had here")

sys.meta_path.insert(0, Forbid())
import importlib.util, json
spec = importlib.util.spec_from_file_location("run_policy", EXAMPLE)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
policy = module.Policy(FILE)
answers = []
for episode in json.loads(sys.stdin.read()):
    policy.reset()
    answers.append([policy.act(observation, deterministic=DETERMINISTIC) for observation in episode])
plain = lambda x: {k: plain(v) for k, v in x.items()} if isinstance(x, dict) else x.tolist()
print(json.dumps([[plain(action) for action in episode] for episode in answers]))
"""


def alone(name: str, episodes: list[list[Any]], path: Path, deterministic: bool = True) -> list[list[Any]]:
    path.write_bytes(exported(name)[2])
    words = f"EXAMPLE, FILE, DETERMINISTIC = {str(EXAMPLE)!r}, {str(path)!r}, {deterministic}\n"
    made = subprocess.run(
        [sys.executable, "-I", "-c", words + ALONE],
        input=json.dumps(plain(episodes)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    answers: list[list[Any]] = json.loads(made.stdout)
    return answers


def plain(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    return [plain(value) for value in tree] if isinstance(tree, list | tuple) else tree.tolist()


@pytest.mark.parametrize("name", ["family beta", "memory gru", "memory lstm apart", "masked", "policy linear-softmax"])
def test_it_does_as_the_policy_does(name: str, tmp_path: Path) -> None:
    policy, _, _ = exported(name)
    many = look(policy.spaces.observation, 12, np.random.default_rng(0))
    rows = [map_leaves(lambda x, i=i: x[i], many) for i in range(12)]
    answers = alone(name, [rows[:7], rows[7:]], tmp_path / "a.onnx")
    for episode, found in zip((rows[:7], rows[7:]), answers, strict=True):
        memory = None
        for observation, answer in zip(episode, found, strict=True):
            batch = map_leaves(lambda x: np.asarray(x)[None], observation)
            action, memory = policy.act(batch, memory)
            wanted = {path: x[0] for path, x in leaves(action)}
            assert wanted.keys() == dict(leaves(answer)).keys()
            for path, x in leaves(answer):
                np.testing.assert_allclose(x, wanted[path], rtol=1e-4, atol=1e-4)


def test_its_samples_differ_and_stay_in_the_space(tmp_path: Path) -> None:
    policy, _, _ = exported("family squashed")
    row = look(policy.spaces.observation, 1, np.random.default_rng(0))[0]
    (samples,) = alone("family squashed", [[row] * 50], tmp_path / "a.onnx", deterministic=False)
    assert len({tuple(sample) for sample in samples}) > 40
    assert all(policy.spaces.action.contains(np.array(sample, np.float32)) for sample in samples)


def test_it_says_what_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(exported("family gaussian")[2])
    words = subprocess.run(
        [sys.executable, "-I", str(EXAMPLE), str(tmp_path / "a.onnx")], capture_output=True, text=True, check=True
    ).stdout
    assert "pendulum, 1000 steps of ppo" in words
    assert "sees observation float32 [3]" in words


def test_the_reader_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(exported("masked")[2])
    code = (
        "import sys; from pistar.export import ExportedPolicy; policy = ExportedPolicy.load(sys.argv[1]); "
        "print(policy.act({'seen': [1, 2, 3], 'mask': [0, 0, 1]})[0], 'torch' in sys.modules, 'onnx' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.onnx")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2", "False", "False"]
