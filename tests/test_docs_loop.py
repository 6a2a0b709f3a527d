"""The documented low-level loop runs as it is printed, and learns."""

import runpy
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "low_level_loop.py"


def test_the_low_level_loop_learns_to_balance_the_pole(capsys):
    learn = runpy.run_path(str(EXAMPLE))["learn"]
    last = learn(steps=12_288)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12_288 // (8 * 128)
    first = float(lines[0].split()[3])
    assert first < 35  # a policy that has not learned yet keeps the pole up for some 20 steps
    assert last > 2 * first


def test_the_same_seed_gives_the_same_loop(capsys):
    learn = runpy.run_path(str(EXAMPLE))["learn"]
    assert learn(steps=2048, seed=3) == learn(steps=2048, seed=3) != learn(steps=2048, seed=4)
