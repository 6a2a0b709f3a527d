"""Reading runs: nothing that a run says is believed, built or imported."""

import json
import random
import sys
from pathlib import Path

import pytest
from written import write_run

from pistar.errors import ArtefactError, PistarError, UsageError
from pistar.report import finished, page
from pistar.report.diagnosis import diagnose


def test_a_directory_of_seeds_stands_for_all_of_them_in_order(tmp_path: Path):
    for seed in (0, 2, 10):
        write_run(tmp_path / "several" / f"seed-{seed}", seed=seed)
    assert [run.seed for _, run in finished.read_all([str(tmp_path / "several")])] == [0, 2, 10]
    with pytest.raises(UsageError, match="no such run"):
        finished.read_all([str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match="is not a run directory"):
        finished.read_all([str(tmp_path)])


def test_the_last_evaluation_at_the_same_steps_counts(tmp_path: Path):
    run = finished.read(write_run(tmp_path / "run", means=(1, 2, 3, 4), final=9.0))
    assert run.points() == [(1000, 1), (2000, 2), (3000, 3), (4000, 9)]
    assert (run.steps, run.seconds, run.threshold) == (4000, pytest.approx(4.0), 475.0)


def test_code_that_a_run_names_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "malicious.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    path = write_run(tmp_path / "run")
    toml = (path / "experiment.toml").read_text()
    (path / "experiment.toml").write_text(toml.replace('kind = "cartpole"', 'kind = "malicious:Task"'))
    run = finished.read(path)
    diagnose(run)
    assert "malicious:Task" in page.build([("run", run)])
    assert "malicious" not in sys.modules


def test_a_policy_file_gives_its_action_space_and_a_damaged_one_nothing(tmp_path: Path):
    path = write_run(tmp_path / "run")
    assert finished.read(path).action_space == {}
    header = {"action_space": {"kind": "discrete", "n": 2}}
    content = json.dumps({"__metadata__": {"header": json.dumps(header)}}).encode()
    whole = len(content).to_bytes(8, "little") + content
    (path / "policy.safetensors").write_bytes(whole)
    assert finished.read(path).action_space == header["action_space"]
    for damaged in (b"", whole[:20], b"\xff" * 64, whole.replace(b"header", b"reader"), b"\x02" + bytes(7) + b"[]"):
        (path / "policy.safetensors").write_bytes(damaged)
        assert finished.read(path).action_space == {}


def test_damaged_records_are_refused_or_left_out_and_never_a_fault(tmp_path: Path):
    """Bytes are changed at random in all that is read; the answer is a page, or an error of pistar's own."""
    generator = random.Random(0)
    path = write_run(tmp_path / "run", metrics={"update/kl": [0.1] * 40, "update/entropy": [0.5] * 40})
    names = ("experiment.toml", "metrics.jsonl", "evaluations.jsonl")
    whole = {name: (path / name).read_bytes() for name in names}
    refused = 0
    for _ in range(150):
        name = generator.choice(names)
        content = bytearray(whole[name])
        for _ in range(generator.choice((1, 3, 20))):
            content[generator.randrange(len(content))] = generator.randrange(32, 127)
        (path / name).write_bytes(content)
        try:
            page.build([("run", finished.read(path))])
        except PistarError:
            refused += 1
        (path / name).write_bytes(whole[name])
    assert 0 < refused < 150


@pytest.mark.parametrize("value", ['"text"', "[]", "{}", "null", "true", "1e999", '{"a":{"b":[1,2]}}'])
def test_values_of_a_strange_kind_are_as_good_as_none(tmp_path: Path, value: str):
    path = write_run(tmp_path / "run", metrics={"update/kl": [0.1] * 40}, baselines={"random": {"mean": 1.0}})
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        lines = (path / name).read_text().splitlines()
        for key in json.loads(lines[-1]):
            record = json.loads(lines[-1])
            record[key] = "REPLACED"
            (path / name).write_text("\n".join([*lines[:-1], json.dumps(record).replace('"REPLACED"', value)]) + "\n")
            try:
                page.build([("run", finished.read(path))])
            except ArtefactError:
                assert value == "1e999"
        (path / name).write_text("\n".join(lines) + "\n")
