"""The tutorial runs from its first cell to its last, and shows what its text says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("onnxruntime", reason="the extra export is not installed")

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    notebook = nbformat.read(TUTORIAL, as_version=4)
    place = str(tmp_path_factory.mktemp("tutorial"))
    return nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": place}}).execute()


def text(notebook: Any) -> str:
    """All that the cells print."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return "".join(output.get("text", "") for cell in cells for output in cell.outputs)


def number(pattern: str, said: str) -> float:
    found = re.search(pattern, said)
    assert found is not None, f"{pattern} is not in {said}"
    return float(found.group(1))


def test_it_says_nothing_on_the_error_stream(executed: Any):
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert not [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]


def test_samples_agree_with_the_exact_gradient_and_a_baseline_takes_their_noise_away(executed: Any):
    said = text(executed)
    exact, sampled = (
        [float(x) for x in re.search(rf"{name}\s*\[(.*?)\]", said).group(1).split()]  # type: ignore[union-attr]
        for name in ("exact", "sampled")
    )
    assert exact == pytest.approx(sampled, abs=0.02)
    noise = [number(rf"{name}\s+deviation ([\d.]+)", said) for name in ("no baseline", "the value as baseline")]
    assert noise[1] < 0.5 * noise[0]


def test_the_policies_learn(executed: Any):
    said = text(executed)
    assert number(r"([\d.]+)% of the way", said) > 97
    returns = [float(x) for x in re.findall(r"steps\s+return\s+([\d.]+)", said)]
    assert returns[-1] > 300 > returns[0]
    assert number(r"random\s+\S+\s+policy minus baseline \+([\d.]+)", said) > 50
    assert number(r"success (\d+)%", said) > 60


def test_the_file_acts_as_the_policy_does(executed: Any):
    assert number(r"over 1,000 observations: (\S+)", text(executed)) < 1e-5


def test_what_is_shown_is_what_the_cells_say_now():
    """The outputs in the file are of these cells: they ran in order, in one go."""
    cells = [cell for cell in nbformat.read(TUTORIAL, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(output.output_type == "display_data" for cell in cells for output in cell.outputs) == 2
