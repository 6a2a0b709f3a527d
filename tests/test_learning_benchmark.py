"""The learning benchmark: scores, what is skipped and resumed, what a recipe may change, what is kept, and the page."""

import dataclasses
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from benchmarks.learning import __main__ as command
from benchmarks.learning import page, parity, peers, picture, published, recipes, results, scoring
from benchmarks.learning.scoring import Outcome
from benchmarks.learning.sitting import Job, Sitting, alone
from benchmarks.learning.suites import FAMILY, SUITES, Row, Suite
from pistar.run import RunDirectory

ROOT = Path(__file__).parents[1]
ROWS = [row for suite in SUITES.values() for row in suite.rows]
VERSIONS = {"pistar": "0", "torch": "2"}


def row(name: str = "Task-v0 ppo", **changes) -> Row:
    base = Row(name, "cartpole --steps 1000", "last-10", 10.0, "mean", "Task-v0", "ppo", "defaults")
    return dataclasses.replace(base, **changes)


def outcome(seed: int, score: float, **changes) -> Outcome:
    steps = tuple(range(100, 1300, 100))
    whole = {"steps": 1200, "seconds": 0.06, "steps_of_curve": steps, "curve": tuple(score + k for k in range(12))}
    return Outcome(seed, score, **{**whole, "versions": VERSIONS, **changes})


def recorded(path: Path, means: list[float], final: dict | None) -> RunDirectory:
    """The records of a run: its evaluations, and the final one where it is finished."""
    path.mkdir(parents=True)
    lines = [{"steps": 100 * (k + 1), "mean": mean} for k, mean in enumerate(means)]
    if final is not None:
        lines.append({"steps": 100 * len(means), "final": True, **final})
    (path / "evaluations.jsonl").write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    (path / "metrics.jsonl").write_text('{"steps":1,"time":{"seconds":1}}\n{"steps":1200,"time":{"seconds":0.06}}\n')
    (path / "experiment.toml").write_text('[run]\npistar = "0"\ncommand = ["pistar"]\n')
    return RunDirectory(path)


# ---- scores ----------------------------------------------------------------------------------------------------------


def test_a_score_is_the_mean_of_the_last_ten_evaluations_and_not_of_the_final_one(tmp_path):
    means = [-1000.0, 500.0, *map(float, range(10))]
    found = scoring.read(row(evaluations=12), recorded(tmp_path / "run", means, {"mean": 99.0}), seed=3)
    assert found.score == statistics.fmean(range(10))
    assert (found.seed, found.curve, found.steps_of_curve[-1]) == (3, tuple(means), 1200)
    assert found.seconds_a_million == pytest.approx(50.0)
    assert found.versions == {"pistar": "0"}


def test_a_run_on_another_device_says_so(tmp_path):
    run = recorded(tmp_path / "run", [1.0], None)
    run.experiment.write_text(run.experiment.read_text() + '[training]\ndevice = "cuda"\n')
    assert scoring.versions(run) == {"pistar": "0", "device": "cuda"}


def test_other_scores_are_those_of_the_final_episodes(tmp_path):
    run = recorded(tmp_path / "run", [1.0], {"mean": 99.0, "fraction_of_optimum": 0.9})
    assert scoring.read(row(score="final"), run, 0).score == 99.0
    assert scoring.read(row(score="fraction"), run, 0).score == 0.9


@pytest.mark.parametrize(("count", "expected"), [(9, None), (11, 12), (13, 12)])
def test_missing_or_superfluous_evaluations_are_refused(tmp_path, count, expected):
    run = recorded(tmp_path / "run", [1.0] * count, {"mean": 1.0})
    with pytest.raises(ValueError, match=f"found {count}"):
        scoring.read(row(evaluations=expected), run, 0)


def test_an_unfinished_run_has_no_score(tmp_path):
    with pytest.raises(ValueError, match="not finished"):
        scoring.read(row(), recorded(tmp_path / "run", [1.0] * 12, None), 0)


@pytest.mark.parametrize("value", [0.0, -4.123456, 7280.2695, 0.000123456789, float("nan"), float("-inf")])
def test_curves_keep_five_significant_digits(value):
    assert scoring.rounded(value) == pytest.approx(value, rel=5e-5, nan_ok=True)
    assert len(repr(scoring.rounded(-4.123456))) <= 7


# ---- recipes ---------------------------------------------------------------------------------------------------------


def test_every_suite_keeps_to_one_setting_and_to_what_a_recipe_may_change():
    pytest.importorskip("ale_py")
    pytest.importorskip("mujoco")
    recipes.check(ROWS)
    for column in ("defaults", "recipe"):
        here = {r.algorithm for r in SUITES["mujoco"].rows if r.column == column}
        assert here == set(FAMILY)


def test_the_number_of_evaluations_is_that_of_the_schedule():
    pytest.importorskip("mujoco")
    for each in (each for each in ROWS if each.column != "peer" and each.evaluations is not None):
        experiment = recipes.resolved(each.arguments)
        training, every = experiment.training, experiment.evaluation.every
        done = training.iterations * training.lanes * training.horizon
        assert done // every == each.evaluations, each.name
    for each in SUITES["mujoco"].rows:
        if each.column != "peer":
            evaluation = recipes.resolved(each.arguments).evaluation
            assert (evaluation.every, evaluation.deterministic) == (20_000, True)
            assert evaluation.episodes == (100 if each.task == "Reacher-v5" else 20)


@pytest.mark.parametrize("free", ["--lanes 4", "--horizon 64", "--ppo.discount 0.9", "--steps 2000"])
def test_a_recipe_may_change_lanes_horizon_discount_and_steps(free):
    arguments = row().arguments.replace("--steps 1000", "") if "steps" in free else row().arguments
    recipes.check([row(), row("recipe", arguments=f"{arguments} {free}", column="recipe")])


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--learning-rate 1e-4", "training.learning_rate"),
        ("--ppo.clip 0.1", "algorithm.clip"),
        ("--mlp.hidden 32 32", "policy.hidden"),
        ("--no-normalize-rewards", "training.normalize_rewards"),
        ("--ppo.max-kl 0.1", "algorithm.max_kl"),  # a value that is none by default and so absent
    ],
)
def test_a_recipe_that_changes_anything_else_is_refused_by_name(flags, named):
    wrong = row("recipe", arguments=f"{row().arguments} {flags}", column="recipe")
    with pytest.raises(ValueError, match=f"more than a recipe may.*{named}"):
        recipes.check([row(), wrong])


def test_defaults_are_one_setting_for_all_tasks_of_a_kind():
    other = row("Pole-v1 ppo", task="Pole-v1", arguments="CartPole-v1 --steps 99")
    continuous = row("Swing ppo", task="Swing", arguments="pendulum --steps 1000")
    recipes.check([row(), other, continuous])
    with pytest.raises(ValueError, match=r"not the one setting.*training\.lanes is 4, not 8"):
        recipes.check([row(), dataclasses.replace(other, arguments="CartPole-v1 --lanes 4")])
    with pytest.raises(ValueError, match="no row of the defaults"):
        recipes.check([row("recipe", column="recipe")])


def test_a_task_that_brings_settings_of_its_own_is_noticed():
    pytest.importorskip("ale_py")
    brought = row("Pong ppo", task="Pong", arguments="ALE/Pong-v5 --steps 1000")
    with pytest.raises(ValueError, match=r"algorithm\.clip is 0\.1"):
        recipes.check([row(), brought])


# ---- sittings --------------------------------------------------------------------------------------------------------


def test_a_run_is_new_begun_or_finished(tmp_path):
    job = Job(row(), 0, tmp_path / "run")
    assert job.state == "new"
    assert job.command("peer")[2:4] == ["pistar", "train"]
    assert job.command("peer")[-5:] == ["--seed", "0", "--out", str(tmp_path / "run"), "--quiet"]
    run = recorded(job.path, [1.0], None)
    assert job.state == "begun"
    assert job.command("peer")[2:5] == ["pistar", "resume", str(job.path)]
    whole = '{"steps":100,"mean":1,"final":true}'
    run.evaluations.write_text(whole[:-3])  # torn by a kill
    assert job.state == "begun"
    run.evaluations.write_text(whole)
    assert job.state == "finished"
    assert dataclasses.replace(job, path=tmp_path / "other", device="cuda").command("")[-3:-1] == ["--device", "cuda"]
    peer = Job(row(column="peer"), 0, tmp_path / "peer")
    assert peer.command("PEER")[0] == "PEER"


def test_a_begun_run_whose_settings_have_changed_since_is_noticed(tmp_path):
    job = Job(row(arguments="cartpole --steps 1000 --lanes 4"), 7, tmp_path / "run")
    experiment = recipes.resolved(f"{job.row.arguments} --seed 7 --workers 0")
    run = RunDirectory(job.path)
    job.path.mkdir()
    run.write_experiment(experiment, {})
    assert job.changed() == []
    later = dataclasses.replace(job, row=row(arguments="cartpole --steps 1000 --lanes 2"))
    assert later.changed() == ["training.lanes was 4, is 2"]
    assert dataclasses.replace(job, device="cuda").changed() == []
    other = dataclasses.replace(job, row=row(arguments="cartpole --steps 1000 --lanes 4 --evaluation.episodes 3"))
    assert "episodes=3" in other.changed()[0]


@dataclasses.dataclass(frozen=True)
class Toy:
    """A job that takes ``seconds`` in all, however often it is stopped meanwhile."""

    row: Row
    seed: int
    path: Path
    seconds: float = 0.0
    code: int = 0

    @property
    def state(self):
        if (self.path / "finished").exists():
            return "finished"
        return "begun" if self.path.exists() else "new"

    def command(self, peer: str) -> list[str]:
        if self.state == "begun":
            return [sys.executable, "-c", f"open({str(self.path / 'finished')!r}, 'w')"]
        script = f"""
import os, pathlib, signal, sys, time
place = pathlib.Path({str(self.path)!r})
def leave(*_):
    (place / "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
place.mkdir(parents=True)
(place / "cores").write_text(str(len(os.sched_getaffinity(0))))
time.sleep({self.seconds})
if {self.code}: sys.exit("it broke")
(place / "finished").touch()
"""
        return [sys.executable, "-c", script]


def test_a_sitting_skips_what_is_finished_and_goes_on_after_a_failure(tmp_path):
    toys = [Toy(row(str(k)), k, tmp_path / str(k), code=int(k == 1)) for k in range(4)]
    toys[0].path.mkdir()
    (toys[0].path / "finished").touch()
    done: list[int] = []
    sitting = Sitting(toys, None, done=lambda job: done.append(job.seed))
    sitting.work(2 if len(os.sched_getaffinity(0)) > 1 else 1)
    assert sorted(done) == [2, 3]
    assert len(sitting.failed) == 1
    assert "it broke" in sitting.failed[0]
    assert (toys[2].path / "cores").read_text() == "1"


def test_when_time_is_up_runs_save_and_the_next_sitting_resumes_them(tmp_path):
    toys = [Toy(row(str(k)), k, tmp_path / str(k), seconds=60.0 * (k == 1)) for k in range(3)]
    sitting = Sitting(toys, 1.5)
    began = time.monotonic()
    sitting.work(1)
    assert time.monotonic() - began < 20
    assert [toy.state for toy in toys] == ["finished", "begun", "new"]
    assert (toys[1].path / "saved").exists()
    assert sitting.failed == []
    Sitting(toys, None).work(1)
    assert [toy.state for toy in toys] == ["finished"] * 3


def test_sigterm_ends_a_sitting_as_cleanly(tmp_path):
    toys = [Toy(row(str(k)), k, tmp_path / str(k), seconds=60.0) for k in range(2)]

    def send() -> None:
        while not (toys[0].path / "cores").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send).start()
    before = signal.getsignal(signal.SIGTERM)
    Sitting(toys, None).work(1)
    assert [toy.state for toy in toys] == ["begun", "new"]
    assert (toys[0].path / "saved").exists()
    assert signal.getsignal(signal.SIGTERM) == before


def test_records_that_do_not_fit_are_a_failure_and_no_end(tmp_path):
    def done(job: Job) -> None:
        raise ValueError("expected 50 evaluations")

    toys = [Toy(row(str(k)), k, tmp_path / str(k)) for k in range(2)]
    sitting = Sitting(toys, None, done=done)
    sitting.work(1)
    assert [toy.state for toy in toys] == ["finished", "finished"]
    assert len(sitting.failed) == 2


def test_two_sittings_do_not_share_a_place(tmp_path):
    with alone(tmp_path), pytest.raises(SystemExit, match="another sitting"), alone(tmp_path):
        pass


def test_every_row_has_its_first_seed_before_one_has_its_second(tmp_path, monkeypatch):
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(Sitting, "work", lambda self, _: seen.extend((j.row.name, j.seed) for j in self.jobs))
    rows = {"cartpole": list(SUITES["cartpole"].rows)}
    chosen = command.parse(
        ["--suite", "cartpole", "--seeds", "5", "3", "--out", str(tmp_path), "--results", str(tmp_path)]
    )
    assert command.train(rows, chosen) == []
    names = [each.name for each in SUITES["cartpole"].rows]
    assert seen == [(name, seed) for seed in (5, 3) for name in names]


def test_the_command_trains_once_and_finds_it_finished_the_next_time(tmp_path, capsys):
    words = ["--suite", "classic", "--rows", "CartPole-v1 ppo", "--columns", "defaults", "--seeds", "0"]
    words += ["--smoke", "12288", "--out", str(tmp_path)]
    command.main(words)
    first = capsys.readouterr().out
    assert "seed 0: started" in first
    kept = json.loads((tmp_path / "results/learning/classic/CartPole-v1-ppo.json").read_text())
    assert len(kept["runs"][0]["curve"]) == len(kept["steps"]) == 12
    assert kept["runs"][0]["score"] == pytest.approx(statistics.fmean(kept["runs"][0]["curve"][-10:]), rel=1e-4)
    assert kept["settings"]["training.lanes"] == 8
    assert (tmp_path / "results/classic.png").exists()
    command.main(words)
    second = capsys.readouterr().out
    assert "started" not in second
    assert "1 of 1 runs are finished" in second
    assert (tmp_path / "results/classic.md").read_text() in first
    with pytest.raises(SystemExit, match="other settings"):  # as it would be after a default has changed
        command.main([*words[:-4], "--smoke", "24576", "--out", str(tmp_path)])
    shutil.rmtree(tmp_path / "classic")
    command.main(words)
    third = capsys.readouterr().out
    assert "started" not in third  # what is kept of a run is enough
    assert "1 of 1 runs are finished" in third
    (tmp_path / "results/learning/classic/CartPole-v1-ppo.json").unlink()
    command.main(words)
    assert "seed 0: started" in capsys.readouterr().out


def test_rows_are_found_by_the_words_of_their_names():
    mujoco = SUITES["mujoco"]
    assert [r.name for r in mujoco.chosen(["Hopper-v5 ppo"], ["defaults"])] == ["Hopper-v5 ppo"]
    assert [r.name for r in mujoco.chosen(["Hopper-v5 ppo*"], ["defaults"])] == [
        "Hopper-v5 ppo",
        "Hopper-v5 ppo-penalty",
    ]
    assert len(mujoco.chosen([], ["peer"])) == 5
    assert len({results.file_of(Path(), name, r) for name, s in SUITES.items() for r in s.rows}) == len(ROWS)


def test_a_smoke_run_never_writes_among_the_real_results():
    with pytest.raises(SystemExit):
        command.parse(["--smoke", "1000", "--results", str(command.RESULTS)])
    short = row(arguments="cartpole --steps 1000 --evaluation.every 20 --evaluation.episodes 100").shortened(120)
    assert short.arguments == "cartpole --steps 120 --evaluation.every 10 --evaluation.episodes 2"


def test_a_peer_that_is_missing_is_left_out_with_the_reason(tmp_path, capsys, monkeypatch):
    assert "--peer" in str(peers.missing(tmp_path / "python"))
    assert "sb3_contrib" in str(peers.missing(without_sb3(tmp_path)))
    seen: list[Job] = []
    monkeypatch.setattr(Sitting, "work", lambda self, _: seen.extend(self.jobs))
    chosen = command.parse(
        ["--suite", "mujoco", "--peer", str(tmp_path / "none"), "--out", str(tmp_path), "--seeds", "0"]
    )
    command.train({"mujoco": [r for r in SUITES["mujoco"].rows if r.task == "Hopper-v5"]}, chosen)
    assert "left out" in capsys.readouterr().out
    assert seen
    assert all(job.row.column != "peer" for job in seen)


def without_sb3(folder: Path) -> Path:
    """An interpreter that has no sb3-contrib, whatever this one has."""
    script = folder / "python-without"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    script.chmod(0o755)
    return script


# ---- what is kept ----------------------------------------------------------------------------------------------------


def test_a_row_survives_its_file_and_the_file_is_small(tmp_path):
    seeds = [outcome(k, 1000.0 + k / 3, versions={"pistar": str(k // 5)}) for k in range(10)]
    curve = {"steps_of_curve": tuple(range(20_000, 1_020_000, 20_000)), "curve": tuple(1234.5 + k for k in range(50))}
    seeds = [dataclasses.replace(each, **curve) for each in seeds]
    seeds[4] = dataclasses.replace(seeds[4], steps_of_curve=tuple(range(50)))
    seeds[5] = dataclasses.replace(seeds[5], steps_of_curve=(), curve=())
    kept = results.Result(row(), tuple(seeds), {"training.lanes": 8}, "pistar train")
    path = results.file_of(tmp_path, "mujoco", row())
    results.save(path, kept)
    assert results.load(path, row()) == kept
    assert path.stat().st_size < 8_000
    assert results.load(tmp_path / "none.json", row()) is None


def test_seeds_of_several_sittings_come_together_unless_the_settings_have_changed():
    first = results.merged(row(), None, [outcome(1, 5.0)])
    both = results.merged(row(), first, [outcome(0, 4.0), outcome(1, 6.0)])
    assert [(o.seed, o.score) for o in both.outcomes] == [(0, 4.0), (1, 6.0)]
    assert results.merged(row(), both, []) == both
    changed = row(arguments="cartpole --steps 1000 --lanes 2")
    assert results.merged(changed, both, []) == both  # nothing better is known
    assert [o.seed for o in results.merged(changed, both, [outcome(2, 1.0)]).outcomes] == [2]
    default = dataclasses.replace(both, settings={**both.settings, "training.lanes": 2})
    assert [o.seed for o in results.merged(row(), default, [outcome(2, 1.0)]).outcomes] == [2]


def test_a_page_right_after_a_sitting_is_that_of_what_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(
        command, "Job", lambda row, seed, path: types.SimpleNamespace(state="finished", path=path, changed=list)
    )
    monkeypatch.setattr(command.scoring, "read", lambda row, run, seed: outcome(seed, 1.0, seconds=0.123456))
    chosen = command.parse(["--out", str(tmp_path), "--results", str(tmp_path), "--seeds", "0"])
    each = SUITES["mujoco"].rows[0]
    found = command.collect("mujoco", each, chosen)
    assert found == results.load(results.file_of(tmp_path, "mujoco", each), each)


def test_what_is_kept_in_the_repository_is_what_the_pages_show():
    folder = ROOT / "benchmarks" / "results"
    for name, suite in SUITES.items():
        files = [(each, results.file_of(folder, name, each)) for each in suite.rows]
        known = [found for each, file in files if (found := results.load(file, each)) is not None]
        stray = set((folder / "learning" / name).glob("*.json")) - {file for _, file in files}
        assert not stray, f"rows that no suite has: {stray}"
        if known:
            shown = (folder / f"{name}.md").read_text()
            assert shown == page.page(name, suite, known, (folder / f"{name}.png").exists())


# ---- page and picture ------------------------------------------------------------------------------------------------


def cells(text: str) -> list[list[str]]:
    return [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def result(of: Row, *scores: float) -> results.Result:
    return results.Result(of, tuple(outcome(k, score) for k, score in enumerate(scores)), {}, of.command)


def test_the_page_shows_an_unfinished_row_with_its_number_of_seeds():
    plain, recipe = (
        row("Hopper-v5 ppo", task="Hopper-v5", asked=3000.0, aim=3400.0),
        row("r", task="Hopper-v5", column="recipe"),
    )
    waiting = row("Hopper-v5 a2c", task="Hopper-v5", algorithm="a2c")
    suite = Suite("Title", (plain, recipe, waiting), tuple(range(4)))
    hurried = results.Result(plain, (outcome(0, 1000.0), outcome(1, 2000.0, seconds=0.12)), {}, plain.command)
    text = page.page("mujoco", suite, [hurried, result(recipe, 5.0)], True)
    lines = cells(text)
    low, high = stats.t.interval(0.95, 1, 1500, stats.sem([1000, 2000]))
    mean = f"1500 [{low:.4g}, {high:.4g}]"
    assert lines[2] == ["Hopper-v5", "ppo", f"{mean} (2)", "5 [–] (1)", "", published.beside("Hopper-v5", "ppo")]
    detail = lines[5]
    assert detail[:3] == ["Hopper-v5 ppo", "mean ≥ 3000 (missed so far; aim 3400)", "1500"]
    assert detail[3:] == [mean, "1000", "1000, 2000", "0", "75, fastest 50", "2 of 4"]
    assert "Not run yet: Hopper-v5 a2c." in text
    assert "![" in text
    assert published.SOURCES["XuanCe"] in text
    assert "horizon and γ alone: Hopper-v5 γ 0.999." in text
    widths = [len(line) for line in lines]
    assert widths == [6] * 3 + [9] * 4


def test_seconds_of_different_processors_are_told_apart():
    old, new = ({**VERSIONS, "processor": name} for name in ("AVX2", "AVX512"))
    times = [(0, 0.24, old), (1, 0.06, new), (2, 0.12, new)]
    outcomes = tuple(outcome(seed, 1.0, seconds=spent, versions=made) for seed, spent, made in times)
    limited = row(asked_seconds=60.0)
    both = results.Result(limited, outcomes, {}, limited.command)
    assert page.seconds(both) == "200, fastest 200 (AVX2: 1); 75, fastest 50 (AVX512: 2) (asked ≤ 60)"
    one = results.Result(limited, outcomes[1:], {}, limited.command)
    assert page.seconds(one) == "75, fastest 50 (asked ≤ 60)"


@pytest.mark.parametrize(
    ("judged_by", "asked", "word"),
    [("mean", 2.0, "reached"), ("mean", 2.1, "missed"), ("median", 1.0, "reached"), ("median", 1.5, "missed"),
     ("every", 1.0, "reached"), ("every", 1.01, "missed")],
)  # fmt: skip
def test_what_is_asked_is_judged_by_its_rule(judged_by, asked, word):
    given = result(row(judged_by=judged_by, asked=asked), 1.0, 1.0, 4.0)
    assert page.asked(given, [given], 3) == f"{judged_by} ≥ {asked:g} ({word})"


def test_trpo_is_asked_for_what_the_peer_reaches_here():
    mine = result(row(algorithm="trpo", asked=None), 3.0, 5.0)
    peer = result(row("peer", algorithm="trpo", column="peer", asked=None), 1.0, 2.0)
    assert page.asked(mine, [mine, peer], 2) == "mean ≥ 1.5 (sb3-contrib's; reached)"
    assert page.asked(mine, [mine], 2) == page.asked(peer, [mine, peer], 2) == ""
    assert "sb3-contrib, here: 1.5" in page.overview([mine, peer])


def test_every_published_figure_has_a_source_and_a_row():
    known = {(each.task, each.algorithm) for each in ROWS}
    for key, figures in published.FIGURES.items():
        assert key in known
        assert set(figures) <= set(published.SOURCES)


def test_the_band_is_students_interval_at_every_evaluation():
    means = np.random.default_rng(0).normal(size=(5, 7))
    middle, half = picture.band(means)
    low, high = stats.t.interval(0.95, 4, means.mean(0), stats.sem(means, axis=0))
    np.testing.assert_allclose(middle - half, low)
    np.testing.assert_allclose(middle + half, high)
    assert picture.band(means[:1])[1].tolist() == [0.0] * 7


def test_curves_of_seeds_that_were_judged_at_other_steps_meet_on_one_grid():
    shifted = outcome(1, 0.0, steps_of_curve=tuple(range(150, 1350, 100)))
    steps, means = picture.curves(results.Result(row(), (outcome(0, 0.0), shifted)))
    assert steps[1] == 200
    assert means[:, 1].tolist() == [1.0, 0.5]


def test_the_picture_is_drawn_where_there_are_curves(tmp_path):
    bare = results.Result(row(), (outcome(0, 1.0, steps_of_curve=(), curve=()),))
    assert not picture.draw("Nothing", [bare], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    assert picture.draw(
        "Some", [bare, result(row(), 1.0, 2.0), result(row("b", column="peer"), 3.0)], tmp_path / "some.png"
    )
    assert np.asarray(Image.open(tmp_path / "some.png")).std() > 5


# ---- parity ----------------------------------------------------------------------------------------------------------


def test_parity_reads_rows_and_older_files_and_measures_in_units_of_what_was_learned(tmp_path, capsys):
    folder = tmp_path / "new"
    results.save(folder / "row.json", results.Result(row("a"), (outcome(0, 90.0), outcome(1, 90.0)), None, ""))
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"rows": [{"row": "a", "scores": [100.0, 100.0]}, {"row": "b", "scores": [1.0]}]}))
    parity.main([str(folder), str(old), "--random", "a=0", "b=0", "--results", str(tmp_path)])
    (line,) = [each for each in cells((tmp_path / "parity.md").read_text()) if each[0] == "a"]
    assert line == ["a", "90 (2)", "100 (2)", "-0.100", "0.000", "-0.100", "not worse"]
    assert parity.bound([80.0, 100.0], [90.0, 90.0], 0.0) == (0.0, pytest.approx(-1 / 9))


def test_the_command_can_be_called_from_the_checkout():
    asked = subprocess.run(
        [sys.executable, "-m", "benchmarks.learning", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert asked.returncode == 0
    assert "--time" in asked.stdout
