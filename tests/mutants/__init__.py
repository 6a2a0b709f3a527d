"""Mutants: small wrong changes to the library, each of which some test must notice.

The tables in the ``.toml`` files beside this one list them: the file, a text that occurs in it exactly once, what stands
there instead, the tests that must notice, and what it breaks. ``python -m tests.mutants`` applies each to a copy of the
package, never to the checkout, and runs its tests there. A change of the library that moves such a text fails
``tests/test_mutants.py``: carry the mutant along.

Mutants are chosen by hand, for mistakes that are made in practice and that still train, only worse. Left out: mutating
every operator by machine, most of whose mutants say nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@dataclass(frozen=True)
class Mutant:
    """One wrong change."""

    name: str
    breaks: str  # what is wrong then
    file: str  # path from the root
    original: str  # occurs exactly once
    replacement: str
    tests: tuple[str, ...]  # as pytest names them, down to a function or a case of it; at least one must fail

    def applied(self, text: str) -> str:
        """The file's text with the change. Raises ValueError where the original does not occur exactly once."""
        count = text.count(self.original)
        if count != 1:
            raise ValueError(
                f"{self.name}: expected this text once in {self.file}, found it {count} times; if the library has changed, "
                f"change the mutant with it:\n    {self.original}"
            )
        return text.replace(self.original, self.replacement)


def listed() -> list[Mutant]:
    """Every mutant, in the order of the files."""
    tables = {path: tomllib.loads(path.read_text()) for path in sorted(HERE.glob("*.toml"))}
    names = [name for table in tables.values() for name in table]
    if len(set(names)) != len(names):
        raise ValueError(f"listed twice: {sorted({name for name in names if names.count(name) > 1})}")
    return [
        Mutant(name=name, tests=tuple(fields.pop("tests")), **fields)
        for table in tables.values()
        for name, fields in table.items()
    ]


def problem(mutant: Mutant) -> str | None:
    """Why a mutant cannot be applied or tested as it stands, or None."""
    try:
        compile(mutant.applied((ROOT / mutant.file).read_text()), mutant.file, "exec")
    except (ValueError, OSError) as error:
        return str(error)
    except SyntaxError as error:
        return f"{mutant.name}: {mutant.file} does not compile with it: {error}"
    if mutant.original == mutant.replacement or not mutant.tests:
        return f"{mutant.name}: expected a replacement that differs, and at least one test"
    for test in mutant.tests:
        file, *_, function = test.partition("[")[0].split("::")
        path = ROOT / file
        if not path.is_file() or not re.search(rf"^ *def {re.escape(function)}\(", path.read_text(), re.MULTILINE):
            return f"{mutant.name}: there is no test {test}; name the one that notices it now"
    return None


def problems(mutants: Sequence[Mutant]) -> list[str]:
    """All of them."""
    return [found for found in map(problem, mutants) if found is not None]
