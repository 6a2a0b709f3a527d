"""The documentation is true: its links lead somewhere, its commands parse, its quotes stand in the code."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pistar.cli import (
    COMMANDS,
    algorithms,
    compare,
    doctor,
    evaluate,
    export,
    flags,
    record,
    report,
    request,
    resume,
    serve,
    tasks,
    tune,
    watch,
)
from pistar.errors import UnknownName, UsageError

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
PAGES = sorted([*ROOT.glob("README*.md"), ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PATH = re.compile(r"(?:pistar|tests|docs|benchmarks)/[\w./-]*\w/?|\.ci/run|[A-Z][\w.-]*\.md|Makefile")

pytestmark = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


class Block(NamedTuple):
    """A fenced or indented block of a page."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    fenced = [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)]
    rest = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    indented = re.findall(r"(?:^    .*\n)+", rest, re.M)
    return [*fenced, *(Block("", re.sub(r"^    ", "", block, flags=re.M)) for block in indented)]


def spans(page: Path) -> list[str]:
    """`code` within sentences and tables."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S))


def commands(page: Path) -> list[str]:
    """Every `pistar ...` that a reader could type; those with a placeholder (TASK, RUN, X) left out."""
    lines = [line for block in blocks(page) if not block.language for line in block.text.splitlines()]
    typed = [text.partition("  #")[0].strip() for text in [*lines, *spans(page)]]
    found = [text.removeprefix(".venv/bin/") for text in typed]
    names = "|".join(COMMANDS)
    whole = [
        text for text in found if re.match(rf"pistar (?:{names})\b", text) and not re.search(r"\b[A-Z]{2,}\b", text)
    ]
    return [text for text in whole if len(text.split()) > 2 or text.split()[1] in LISTS]  # else a name in a sentence


# ---- links -----------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def test_every_path_that_is_named_exists(page: Path):
    named = {span for span in spans(page) if PATH.fullmatch(span)}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_every_make_target_exists(page: Path):
    lines = [line for block in blocks(page) for line in block.text.splitlines()]
    wanted = {found for line in [*lines, *spans(page)] for found in re.findall(r"^make (\w+)", line)}
    assert wanted <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))


# ---- commands --------------------------------------------------------------------------------------------------------

OPTIONS = {
    "resume": resume,
    "evaluate": evaluate,
    "record": record,
    "watch": watch,
    "export": export,
    "compare": compare,
    "report": report,
    "serve": serve,
}
OF_SEVERAL = ("compare", "report")  # runs
LISTS = {"tasks": tasks, "algorithms": algorithms}


def parse(command: str) -> None:
    """Read a command line as `pistar` would, without running it. Raises UsageError where it would be refused."""
    name, *arguments = shlex.split(command)[1:]
    if flags.asks_for_help(arguments):
        arguments = [word for word in arguments if word not in ("-h", "--help")]
        assert name in COMMANDS
        flags.parse(arguments, request.groups(arguments) if name == "train" else [])
    elif name == "train":
        request.read(arguments, "usage")
    elif name == "tune":
        parsed = flags.parse(arguments, tune.groups(arguments))
        options = parsed.options(tune.Options)
        tune.extent_of({})
        if options.resume is None:
            base = tune.experiment_of(parsed.only_word("usage"), options, parsed.values)
            tune.plan_of("task", base, options, tune.fixed(base, parsed.values))
        else:
            tune.require_alone(parsed)
    elif name in LISTS:
        for word in flags.parse(arguments, []).words:
            registry = {"tasks": tasks.TASKS, "algorithms": algorithms.ALGORITHMS}[name]
            registry.get(word)
    elif name == "doctor":
        groups = [flags.Group("", "", lambda: doctor.Options), flags.Group("gymnasium", "", lambda: doctor.Constructor)]
        parsed = flags.parse(arguments, groups)
        parsed.options(doctor.Options)
        parsed.only_word("usage")
    else:
        parsed = flags.parse(arguments, [flags.Group("", "", lambda: OPTIONS[name].Options)])
        parsed.options(OPTIONS[name].Options)
        if name in OF_SEVERAL:
            assert parsed.words
        else:
            parsed.only_word("usage")


def test_every_command_parses(page: Path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no run is in the way
    monkeypatch.syspath_prepend(str(EXAMPLES))
    (tmp_path / "runs" / "tuned").mkdir(parents=True)
    (tmp_path / "runs" / "tuned" / "best.toml").touch()  # what a search that a page tells of leaves
    refused = []
    for command in commands(page):
        try:
            parse(command)
        except UsageError as error:
            refused.append(f"{command}: {error}")
    assert refused == []


def flags_of(page: Path) -> Iterator[str]:
    """Flags of ours that are named alone in a sentence or in a table's column of ours."""
    for line in page.read_text().splitlines():
        cells = line.split("|")
        # Tables of other libraries' settings hold theirs in the first column, and their words in the notes.
        text = cells[2] if page.name == "coming-from.md" and len(cells) == 5 else line
        if page.name != "coming-from.md" or len(cells) == 5:
            yield from re.findall(r"`(--[\w.-]+)", text)


def test_every_flag_that_is_named_alone_is_known(page: Path):
    kinds = [*request.groups([]), *(flags.Group("", "", lambda m=m: m.Options) for m in (*OPTIONS.values(), tune))]
    unknown = []
    for flag in flags_of(page):
        if re.search(r"\b[A-Z]+\b", flag) or flag.startswith(("--algorithm.", "--task.", "--gymnasium.options.")):
            continue
        try:
            flags.recognise(flag, kinds)
        except UsageError as error:
            unknown.append(str(error))
    assert unknown == []


def test_the_check_of_commands_can_fail(page: Path):
    with pytest.raises(UsageError, match="unknown flag"):
        parse("pistar train cartpole --lains 3")
    with pytest.raises(UnknownName):
        parse("pistar algorithms p")
    with pytest.raises(UsageError):
        parse("pistar watch")


# ---- quotes ----------------------------------------------------------------------------------------------------------


def test_quoted_lines_stand_in_the_file_that_is_named_above_them(page: Path):
    missing = []
    for language, text in blocks(page):
        first, *lines = text.splitlines()
        if language != "python" or not first.startswith("# "):
            continue
        source = {line.strip() for line in (ROOT / first[2:]).read_text().splitlines()}
        missing += [line for line in lines if line.strip() and line.strip() not in source]
    assert missing == []


# ---- pages that must keep step ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [ROOT / "README.zh-CN.md"], ids=["zh-CN"])
def test_both_readmes_say_the_same(page: Path, other: Path):
    if page.name != "README.md":
        pytest.skip("one comparison is enough")
    assert commands(page) == commands(other)
    assert len(commands(page)) > 5
    for pattern in (r"^(#+) ", r"^(```\w*)", r"\]\(([^)]+)\)", r"^\|.*\|$"):
        mine, theirs = (re.findall(pattern, each.read_text(), re.M) for each in (page, other))
        assert len(mine) == len(theirs) if pattern.startswith(r"^\|") else mine == theirs, pattern
    assert [block for block in blocks(page) if block.language] == [block for block in blocks(other) if block.language]


def test_architecture_names_every_module(page: Path):
    if page.name != "architecture.md":
        pytest.skip("only the architecture page lists modules")
    text = page.read_text()
    silent = []
    for file in sorted((ROOT / "pistar").rglob("*.py")):
        name = file.relative_to(ROOT).as_posix()
        folders = {f"`{parent.as_posix()}/`" for parent in Path(name).parents}
        if not file.name.startswith("__") and f"`{name}`" not in text and not any(f in text for f in folders):
            silent.append(f"docs/architecture.md says nothing of {name}; give it a line under Rooms")
    assert silent == []


def test_measured_numbers_are_those_of_the_benchmarks(page: Path):
    if not page.name.startswith("README"):
        pytest.skip("only the READMEs quote results")
    results = "\n".join(file.read_text() for file in (ROOT / "benchmarks" / "results").glob("*.md"))
    known = [[cell.strip() for cell in line.split("|")[1:-1]] for line in results.splitlines()]
    known_scores = {(row[2], row[3], row[4], row[8]) for row in known if len(row) == 9}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.read_text().splitlines()]
    quoted = [row for row in rows if len(row) == 5 and re.match(r"-?\d", row[1])]
    assert quoted
    assert [row[0] for row in quoted if tuple(row[1:]) not in known_scores] == []
