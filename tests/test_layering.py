"""Who may import whom, read from the source: the rules of docs/architecture.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pistar

ROOT = Path(pistar.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def is_for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def statements(body: list[ast.stmt], inside_functions: bool) -> Iterator[ast.stmt]:
    """Every statement that runs, those for type checkers left out."""
    for node in body:
        if is_for_types_only(node):
            yield from statements(node.orelse, inside_functions)  # type: ignore[attr-defined]
            continue
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from statements(getattr(node, field, []), inside_functions)
        for handler in getattr(node, "handlers", []):
            yield from statements(handler.body, inside_functions)


def imported(file: Path, *, inside_functions: bool = True) -> set[str]:
    """Dotted names of all modules (and names in them) that a file imports at run time."""
    found = set()
    for node in statements(ast.parse(file.read_text()).body, inside_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports are not used here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def offences(folder: str, *forbidden: str, inside_functions: bool = True) -> list[str]:
    files = [file for file in FILES if file.relative_to(ROOT).as_posix().startswith(folder)]
    assert files
    return [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in sorted(imported(file, inside_functions=inside_functions))
        if any(name == word or name.startswith(f"{word}.") for word in forbidden)
    ]


@pytest.mark.parametrize("name", ["estimators.py", "objectives.py"])
def test_formulas_import_torch_and_nothing_of_pistar(name: str):
    known = {name.partition(".")[0] for name in imported(ROOT / name)}
    assert known <= {"torch", "math", "__future__", "collections", "typing"}


def test_algorithms_know_no_worlds():
    assert (
        offences("algorithms/", "pistar.envs", "pistar.collector", "pistar.tasks", "pistar.session", "pistar.training")
        == []
    )
    assert offences("algorithms/", "pistar.evaluation", "pistar.report", "pistar.cli") == []


def test_worlds_know_no_algorithms():
    upper = (
        "pistar.algorithms",
        "pistar.session",
        "pistar.training",
        "pistar.learner",
        "pistar.policy",
        "pistar.tasks",
        "pistar.cli",
    )
    assert offences("envs/", *upper) == []


def test_reports_know_neither_training_nor_algorithms():
    assert (
        offences("report/", "pistar.session", "pistar.training", "pistar.algorithms", "pistar.learner", "pistar.cli")
        == []
    )


def test_nothing_but_the_command_line_knows_the_command_line():
    assert [
        o
        for file in FILES
        if "cli" not in file.parts and file.name != "__main__.py"
        for o in offences(file.relative_to(ROOT).as_posix(), "pistar.cli")
    ] == []


def test_nothing_but_the_command_knows_the_search():
    known = [file for file in FILES if not file.relative_to(ROOT).as_posix().startswith(("tune/", "cli/tune.py"))]
    assert [o for file in known for o in offences(file.relative_to(ROOT).as_posix(), "pistar.tune", "optuna")] == []


def test_nothing_knows_the_examinations_for_users():
    known = [file for file in FILES if not file.relative_to(ROOT).as_posix().startswith(("testing/", "doctor/"))]
    assert [o for file in known for o in offences(file.relative_to(ROOT).as_posix(), "pistar.testing")] == []


OWN_WORK = (
    "cli/outcome.py",
    "tasks/arm_joint_exact.py",
    "tasks/puzzles_exact.py",
)  # imported where a run or a task is at work already


@pytest.mark.parametrize("folder", ["tasks/", "algorithms/", "policies/", "cli/"])
def test_what_is_listed_imports_no_torch_at_module_level(folder: str):
    slow = ("torch", "numpy", "gymnasium", "mujoco", "pistar.report", "pistar.envs")
    listed = [o for o in offences(folder, *slow, inside_functions=False) if not o.startswith(OWN_WORK)]
    assert listed == []


def test_there_is_no_pickle_anywhere():
    assert offences("", "pickle", "dill", "cloudpickle", "shelve", "joblib") == []
    # Plain values between a run and its own worker processes; nothing that is read from a file.
    assert offences("", "marshal") == ["envs/worker_messages.py imports marshal"]
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                call = ast.unparse(node.func)
                assert call not in ("torch.load", "torch.save", "exec"), f"{file}: {call}"
                plain = "allow_pickle=False" in ast.unparse(node)
                assert not call.endswith("np.load") or plain, f"{file}: {call}"


def test_modules_at_the_bottom_stay_there():
    below = {"errors.py": set(), "seeding.py": set(), "schedules.py": {"pistar.errors"}, "tree.py": set()}
    for name, allowed in below.items():
        modules = {
            each
            for each in imported(ROOT / name)
            if each.startswith("pistar.") and (ROOT.parent / (each.replace(".", "/") + ".py")).exists()
        }
        assert modules <= allowed, name


def test_every_file_says_what_it_is_for():
    silent = [file for file in FILES if file.stat().st_size and not ast.get_docstring(ast.parse(file.read_text()))]
    assert silent == []


def test_no_module_is_named_for_nothing_in_particular():
    assert [
        file for file in FILES if file.stem.strip("_") in ("utils", "util", "common", "helpers", "helper", "misc")
    ] == []
