"""The parts of a report's page that tell where its runs come from: what was run, settings, commands, films.

Everything that comes from a run is escaped: its settings and paths are data from elsewhere.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path

from pistar.report.embedded import Medium, data_uri
from pistar.report.finished import Finished
from pistar.report.groups import ABSENT, Group, words
from pistar.report.markup import minus, table
from pistar.report.numerals import duration
from pistar.run import RunDirectory


def runs_table(groups: Sequence[Group]) -> str:
    """Every run: where it lies, its seed, how far it came, on what."""
    rows = [["run", "group", "seed", "steps", "time", "state", "pistar, torch", "processor"]]
    for group, run in ((each, run) for each in groups for run in each.runs):
        known = run.provenance
        versions = f"{known.get('pistar', '?')}, {known.get('torch', '?')}"
        took = "–" if run.seconds is None else duration(run.seconds)
        state = "done" if run.final is not None else "not finished"
        row = [str(run.path), group.label, str(run.seed), f"{run.steps:,}", took, state, versions]
        rows.append([*row, str(known.get("processor", "?"))])
    return table(rows, "texts")


def differing(groups: Sequence[Group]) -> str:
    """The settings in which the groups differ."""
    names = list(groups[0].differs)
    if len(groups) < 2 or not names:
        return ""
    rows = [["setting", *(group.label for group in groups)]]
    rows += [[name, *(group.differs[name] for group in groups)] for name in names]
    return "<h3>What the groups differ in</h3>" + table(rows, "texts")


def settings(groups: Sequence[Group]) -> str:
    """Every resolved value of the first run, and of the others where theirs differ."""
    first = groups[0].runs[0]
    parts = []
    for name, entries in itertools.groupby(first.settings, key=lambda key: key.partition(".")[0]):
        rows = []
        for key in entries:
            values = [group.differs.get(key) for group in groups]
            told = words(first.settings[key]) if None in values else " | ".join(str(value) for value in values)
            if key == "training.seed":
                told = ", ".join(dict.fromkeys(str(run.seed) for group in groups for run in group.runs))
            css = "" if None in values else ' class="differs"'
            rows.append(
                f"<tr{css}><td><code>{escape(key.partition('.')[2])}</code></td><td>{escape(minus(told))}</td></tr>"
            )
        parts.append(f"<section><h3>[{escape(name)}]</h3><table>{''.join(rows)}</table></section>")
    other = (
        ""
        if len(groups) < 2
        else f" Where the groups differ, their values stand in order: {escape(' | '.join(g.label for g in groups))}."
    )
    absent = f" {ABSENT} means that a group has no such setting." if len(groups) > 1 else ""
    return f'<p class="small">Every resolved value.{other}{absent}</p><div class="settings">{"".join(parts)}</div>'


def remake(groups: Sequence[Group]) -> str:
    """The commands that made the runs, and how to make them again from the settings in this page."""
    parts = []
    for group in groups:
        if len(groups) > 1:
            parts.append(f"<h3>{escape(group.label)}</h3>")
        commands = dict.fromkeys(command for run in group.runs if (command := command_of(run)))
        if commands:
            parts.append(f"<p>As it was called:</p><pre>{escape(chr(10).join(commands))}</pre>")
        first = group.runs[0]
        again = [
            shlex.join(
                [
                    "pistar",
                    "train",
                    first.task,
                    "--config",
                    "experiment.toml",
                    "--seed",
                    str(run.seed),
                    "--out",
                    f"again/seed-{run.seed}",
                ]
            )
            for run in group.runs
        ]
        link = toml_link(first, group.label)
        parts.append(
            f"<p>From the settings themselves ({link}), whatever the defaults are by then:</p><pre>{escape(chr(10).join(again))}</pre>"
        )
    return "".join(parts)


def command_of(run: Finished) -> str:
    """The command line of a run, or nothing where it was started from Python."""
    given = run.provenance.get("command")
    if not isinstance(given, list) or len(given) < 2:
        return ""
    return shlex.join(["pistar", *map(str, given[1:])])


def toml_link(run: Finished, label: str) -> str:
    """The run's experiment.toml, inside the page."""
    content = RunDirectory(run.path).experiment.read_bytes()
    return f'<a download="experiment.toml" href="{data_uri(content, "application/toml")}">experiment.toml of {escape(label)}</a>'


def videos(found: Sequence[Medium], groups: Sequence[Group]) -> str:
    """Films and pictures, or how to make one."""
    if not found:
        path = Path(groups[0].runs[0].path)
        call = shlex.join(["pistar", "watch", str(path), "--out", str(path / "watch.mp4")])
        return f"<p>There is none in the run directories. <code>{escape(call)}</code> records one, which the next report shows.</p>"
    figures = []
    for each in found:
        caption = f"<figcaption>{escape(str(each.path))}</figcaption>"
        if not each.uri:
            figures.append(
                f"<figure><figcaption>{escape(str(each.path))} is too large to be put into this page.</figcaption></figure>"
            )
        elif each.film:
            still = f' poster="{each.poster}"' if each.poster else ""
            paper = f'<img class="paper" alt="its first frame" src="{each.poster}">' if each.poster else ""
            film = f'<video controls muted loop playsinline{still} src="{each.uri}"></video>'
            figures.append(f"<figure>{film}{paper}{caption}</figure>")
        else:
            figures.append(f'<figure><img alt="{escape(each.path.name)}" src="{each.uri}">{caption}</figure>')
    return f'<div class="media">{"".join(figures)}</div>'
