"""``pistar train``: what it leaves on the disk, and what it never touches."""

import json
import tomllib
from pathlib import Path

import torch

from pistar import artefact, configuration
from pistar.cli import main


def weights(run: Path) -> dict[str, torch.Tensor]:
    return artefact.load(run).state_dict()


# ---- a run -----------------------------------------------------------------------------------------------------------


def test_a_run_leaves_what_its_report_says(train, tmp_path: Path):
    run = tmp_path / "run"
    code, out, err = train("--out", run)
    assert code == 0
    assert "256 of 256 steps" in err
    for word in ("CartPole-v1 · ppo · seed 0: 256 steps", "(all planned)", "mean return", "random", "95 % interval"):
        assert word in out
    for name in ("policy.safetensors", "metrics.jsonl", "evaluations.jsonl", "experiment.toml", "learning_curve.png"):
        assert (run / name).stat().st_size > 0
        assert str(run / name) in out
    for following in (f"pistar watch {run}", f"pistar evaluate {run}", f"tensorboard --logdir {run}"):
        assert following in out
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["steps"] for record in metrics] == [64, 128, 192, 256]
    assert [record["iteration"] for record in metrics] == [1, 2, 3, 4]
    assert set(metrics[0]["time"]) == {"seconds", "steps_per_second"}
    assert json.loads((run / "evaluations.jsonl").read_text().splitlines()[-1])["final"] is True
    assert len(list((run / "checkpoints").iterdir())) == 2
    tables = tomllib.loads((run / "experiment.toml").read_text())
    assert tables["training"]["lanes"] == 2
    assert tables["run"]["pistar"]
    assert not [path for path in run.rglob("*") if path.suffix in (".tmp", ".partial", ".pkl", ".pt")]


def test_quiet_prints_nothing(train, tmp_path: Path):
    assert train("--quiet --out", tmp_path / "run") == (0, "", "")


def test_steps_are_rounded_up_to_whole_iterations(pistar, tmp_path: Path):
    small = "--lanes 2 --horizon 32 --warm-up 0 --evaluation.every 0 --evaluation.final-episodes 2 --seed 3 --out"
    code, out, _ = pistar(f"train CartPole-v1 --steps 65 {small}", tmp_path / "run")
    assert code == 0
    assert "seed 3: 128 steps" in out
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_the_run_toml_trains_to_equal_bits(train, pistar, tmp_path: Path):
    train(
        "--quiet --seed 4 --ppo.clip 0.3:0.1:cosine --mlp.hidden 8 8 --learning-rate 1e-2:1e-3 --out", tmp_path / "one"
    )
    code, _, err = pistar(
        "train CartPole-v1 --quiet --config", tmp_path / "one/experiment.toml", "--out", tmp_path / "two"
    )
    assert (code, err) == (0, "")
    one, two = (configuration.read_toml(tmp_path / name / "experiment.toml") for name in ("one", "two"))
    assert {**one, "run": {}} == {**two, "run": {}}
    mine, theirs = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    records = [
        [{**json.loads(line), "time": None} for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert records[0] == records[1]


def test_a_run_that_exists_is_never_written_to(train, run: Path, tmp_path: Path):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, _, err = train("--out", run)
    assert code == 2
    assert f"{run} exists already and is left as it is. Continue it with `pistar resume {run}`" in err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    (tmp_path / "file").write_text("precious")
    assert train("--out", tmp_path / "file")[0] == 2
    assert (tmp_path / "file").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    assert train("--quiet --out", tmp_path / "empty")[0] == 0


def test_without_a_place_the_next_free_one_is_taken(train, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert all(train("--quiet")[0] == 0 for _ in range(2))
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["CartPole-v1-ppo-0", "CartPole-v1-ppo-0-2"]


def test_seeds_are_runs_of_their_own_with_a_summary(train, pistar, tmp_path: Path):
    code, out, err = train("--seeds 2 --seed 5 --out", tmp_path / "many")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == ["seed-5", "seed-6"]
    assert "CartPole-v1 · ppo · 2 seeds" in out
    assert "over seeds: mean" in out
    assert "seed 5" in err
    assert train("--quiet --seed 6 --out", tmp_path / "single")[0] == 0
    mine, theirs = weights(tmp_path / "many" / "seed-6"), weights(tmp_path / "single")
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    for command in ("resume", "evaluate"):
        code, _, err = pistar(command, tmp_path / "many")
        assert code == 2
        assert "it holds several runs" in err
        assert "seed-5" in err


def test_from_starts_with_the_weights_of_a_policy(train, run: Path, tmp_path: Path):
    still = "--quiet --learning-rate 0 --warm-up 0 --mlp.no-normalize"
    line = f"{still} --seed 1 --mlp.hidden 8 --out"
    assert (
        main(
            [
                "train",
                "CartPole-v1",
                *["--steps", "64", "--lanes", "2", "--horizon", "32"],
                *line.split(),
                str(tmp_path / "a"),
            ]
        )
        == 0
    )
    for source in (tmp_path / "a", tmp_path / "a" / "policy.safetensors"):
        target = tmp_path / f"b{source.suffix}"
        more = [*["--steps", "64", "--lanes", "2", "--horizon", "32"], *f"{still} --mlp.hidden 8 --seed 2".split()]
        assert main(["train", "CartPole-v1", *more, "--from", str(source), "--out", str(target)]) == 0
        assert all(torch.equal(weights(target)[name], value) for name, value in weights(tmp_path / "a").items())
    code, _, err = train("--mlp.hidden 9 --out", tmp_path / "c", "--from", run)
    assert code == 2
    assert "built otherwise" in err
    assert not (tmp_path / "c").exists()


def test_a_policy_of_another_task_is_no_start(train, pistar, run: Path, tmp_path: Path):
    code, _, err = pistar("train reacher --steps 64 --lanes 2 --horizon 32 --from", run, "--out", tmp_path / "new")
    assert code == 2
    assert "start from a policy of the same task" in err
    assert not (tmp_path / "new").exists()


def test_a_run_ends_early_where_it_is_told_to(pistar, tmp_path: Path):
    small = "--lanes 8 --horizon 128 --ppo.epochs 1 --evaluation.every 0 --evaluation.final-episodes 2 --out"
    code, out, _ = pistar(f"train CartPole-v1 --steps 1e6 --time-limit 0.01s {small}", tmp_path / "time")
    assert code == 0
    assert "1,024 steps" in out
    assert "(the time limit is reached)" in out
    code, out, _ = pistar(f"train CartPole-v1 --steps 1e6 --stop-at 10 {small}", tmp_path / "return")
    assert code == 0
    assert "(the return of --stop-at is reached)" in out
    last = json.loads((tmp_path / "return" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["return"] >= 10
    assert last["steps"] < 10_000
    code, out, _ = pistar(
        "resume", tmp_path / "return", "--quiet"
    )  # the reason still holds: one more iteration, no more
    assert code == 0
    again = json.loads((tmp_path / "return" / "metrics.jsonl").read_text().splitlines()[-1])
    assert again["iteration"] <= last["iteration"] + 1
