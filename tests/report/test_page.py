"""A report: whole in itself, true to its runs, and safe whatever they contain."""

import base64
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from written import write_run

from pistar.errors import UsageError
from pistar.report import finished, page
from pistar.report.diagnosis import RULES
from pistar.report.markup import minus
from pistar.report.sections import CHECKED

BASELINES = {"random": {"mean": 9.5, "difference": 30.5, "interval": [29.0, 32.0]}}
VOID = {"meta", "br", "img", "wbr", "hr", "link"}


class Checker(HTMLParser):
    """Collects addresses, text and tags, and sees that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "poster", "action", "srcset")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def built(*paths: Path, **options: object) -> tuple[str, Checker]:
    text = page.build(finished.read_all(map(str, paths)), **options)  # type: ignore[arg-type]
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return text, checker


@pytest.fixture
def several(tmp_path: Path) -> list[Path]:
    for seed in range(3):
        write_run(tmp_path / "ppo" / f"seed-{seed}", seed=seed, final=40.0 + seed, baselines=BASELINES)
        a2c = {"algorithm": {"kind": "a2c"}}
        write_run(
            tmp_path / "a2c" / f"seed-{seed}",
            seed=seed,
            final=20.0 + seed,
            tables=a2c,
            metrics={"update/kl": [1.0] * 40},
        )
    return [tmp_path / "ppo", tmp_path / "a2c"]


def test_the_page_needs_nothing_but_itself(several: list[Path]):
    text, found = built(*several)
    assert all(address.startswith("data:") for address in found.addresses)
    assert not {"script", "link", "iframe", "object"} & found.seen
    assert not re.search(r"url\(|@import|https?://", re.sub(r"url\(#c[0-9a-f]+\)", "", text))
    assert "default-src 'none'" in text
    assert text == built(*several)[0]  # of the runs alone, not of the time


def test_it_says_what_was_run_what_came_of_it_and_how_to_do_it_again(several: list[Path]):
    _, found = built(*several)
    for part in (
        "Diagnosis",
        "Learning",
        "Evaluation",
        "Comparison",
        "Video",
        "What was run",
        "Make it again",
        "Settings",
    ):
        assert part in found.text
    assert "6 runs in 2 groups by ppo, a2c" in found.text
    assert "baseline: random" in found.text
    assert "Updates move the policy too far" in found.text
    assert "Seen in a2c: all runs" in found.text
    assert "pistar train cartpole --out 'x y'" in found.text
    assert "pistar train cartpole --config experiment.toml --seed 2 --out again/seed-2" in found.text
    tables = [
        tomllib.loads(base64.b64decode(a.partition(",")[2]).decode()) for a in found.addresses if "toml" in a[:30]
    ]
    assert [table["algorithm"]["kind"] for table in tables] == ["ppo", "a2c"]


def test_every_value_of_the_settings_is_there(several: list[Path]):
    _, found = built(several[0])
    run = finished.read_all([str(several[0])])[0][1]
    for name in run.settings:
        assert name.partition(".")[2] in found.text


def test_a_run_that_has_not_ended_is_shown_as_far_as_it_is(tmp_path: Path):
    _, found = built(write_run(tmp_path / "run", final=None))
    assert "not finished" in found.text
    assert "No run has come to its final evaluation yet" in found.text
    _, found = built(write_run(tmp_path / "new", final=None, means=(), metrics={"return": []}))
    assert "No episode has ended yet" in found.text


def test_different_tasks_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="different tasks"):
        built(write_run(tmp_path / "a"), write_run(tmp_path / "b", task="arm-reach"))


def test_what_a_run_says_cannot_become_markup(tmp_path: Path):
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    path = write_run(
        tmp_path / "<b>bold",
        command=("pistar", "train", evil),
        baselines={evil: BASELINES["random"]},
        metrics={"observation/unvarying": [{evil: 1.0}] * 40},  # type: ignore[list-item]
    )
    toml = path / "experiment.toml"
    toml.write_text(
        toml.read_text()
        .replace('kind = "ppo"', f'kind = "{evil}"')
        .replace('processor = "x86"', f'processor = "{evil}"')
    )
    text, found = built(path, labels=(evil,))
    assert "<script" not in text
    assert "<b>bold" not in text
    assert "img" not in found.seen
    assert found.text.count("<script>alert(1)</script>") >= 5


def test_films_and_pictures_are_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import numpy as np

    from pistar.report import embedded
    from pistar.report.video import write_video

    path = write_run(tmp_path / "run")
    assert "watch.mp4" in built(path)[1].text  # how to make one
    write_video((np.full((64, 64, 3), n, np.uint8) for n in range(8)), path / "watch.mp4")
    write_video((np.full((64, 64, 3), n, np.uint8) for n in range(8)), path / "short.gif")
    (path / "learning_curve.png").write_bytes(b"drawn anew")
    _, found = built(path)
    kinds = [address.partition(";")[0] for address in found.addresses]
    assert sorted(kinds) == [
        "data:application/toml",
        "data:image/gif",
        "data:image/jpeg",
        "data:image/jpeg",
        "data:video/mp4",
    ]
    monkeypatch.setattr(embedded, "LARGEST", 10)
    assert "too large" in built(path)[1].text
    (path / "watch.mp4").write_bytes(b"no film")
    built(path)


def test_every_rule_has_words_for_finding_nothing():
    assert set(CHECKED) == {rule.__name__ for rule in RULES}


def test_minus_signs_are_those_of_numbers_only():
    assert (
        minus("-3.5 to -.2, --ppo.max-kl 0.02, 3e-4:0, arm-reach, Ant-v5")
        == "−3.5 to −.2, --ppo.max-kl 0.02, 3e-4:0, arm-reach, Ant-v5"
    )
