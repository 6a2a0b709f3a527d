"""The comparison with torch notices what is wrong with a file, in every output, and nothing is written then."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policies_to_export import build, cases, exported, look

from pistar import artefact
from pistar.errors import ArtefactError, UsageError
from pistar.export import ExportedPolicy, export
from pistar.export.graph import plan
from pistar.export.situations import Situations
from pistar.export.verification import verify

NAMES = ["family gaussian", "family beta", "memory lstm", "masked", "multi-binary"]


def faulty(reader: ExportedPolicy, wrong: str, monkeypatch: pytest.MonkeyPatch, every: int = 1) -> None:
    """Let one output be a little off, or another choice, in every so many calls."""
    honest, calls = reader.session.run, itertools.count(1)

    class Session:
        def run(self, names: list[str], feeds: Any) -> list[Any]:
            found = honest(names, feeds)
            if next(calls) % every == 0:
                x = found[names.index(wrong)] = found[names.index(wrong)].copy()
                x[-1] = x[-1] + 1e-3 if x.dtype.kind == "f" else x.max() + x.min() - x[-1]
            return found

    monkeypatch.setattr(reader, "session", Session())


@pytest.mark.parametrize("name", NAMES)
def test_every_output_that_is_off_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, reader, _ = exported(name)
    for port in reader.outputs:
        with monkeypatch.context() as patch:
            faulty(reader, port.name, patch)
            with pytest.raises(ArtefactError, match=rf"{port.name} is not what torch says"):
                verify(policy, plan(policy), reader)


def test_a_memory_that_is_off_only_late_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, reader, _ = exported("memory gru apart")
    faulty(reader, "next_memory.actor", monkeypatch, every=190)
    with pytest.raises(ArtefactError, match=r"next_memory\.actor is not what torch says in 1 of"):
        verify(policy, plan(policy), reader)


def test_resets_are_part_of_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, reader, _ = exported("memory gru apart")
    honest = reader.session.run

    class Session:
        def run(self, names: list[str], feeds: Any) -> Any:
            return honest(names, {**feeds, "is_first": np.zeros_like(feeds["is_first"])})

    monkeypatch.setattr(reader, "session", Session())
    with pytest.raises(ArtefactError, match="is not what torch says"):
        verify(policy, plan(policy), reader)


def test_what_is_not_finite_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, reader, _ = exported("family gaussian")
    honest = reader.session.run

    class Session:
        def run(self, names: list[str], feeds: Any) -> Any:
            found = honest(names, feeds)
            found[names.index("distribution.std")][0] = np.inf
            return found

    monkeypatch.setattr(reader, "session", Session())
    with pytest.raises(ArtefactError, match=r"distribution\.std is not finite"):
        verify(policy, plan(policy), reader)


def test_thousands_of_observations_are_compared_and_recurrent_ones_for_200_steps() -> None:
    for name, (_, reader, _) in ((name, exported(name)) for name in NAMES):
        verified = reader.metadata["verified"]
        assert verified["observations"] >= 4000
        assert verified["steps"] == (200 if "memory" in name else 1)
        assert verified["largest_difference"] <= 1e-5


def test_situations_are_where_the_policy_has_been() -> None:
    policy, _, _ = exported("memory gru")
    drawn = Situations(policy, plan(policy)).observation(4000)
    seen = drawn["observation.seen"]
    assert abs(np.median(seen) - 100) < 1
    assert 2 < np.median(abs(seen - 100)) < 20
    assert set(np.unique(drawn["observation.mask.switches"])) == {0.0, 1.0}
    assert len(np.unique(drawn["observation.a_picture"])) == 256


def test_the_file_appears_when_it_has_been_compared_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = build(cases()["family squashed"])
    artefact.save(policy, tmp_path / "policy.safetensors", {"task": {"kind": "pendulum"}, "steps": 7})
    out = tmp_path / "policy.onnx"

    def disagree(*_: Any) -> None:
        raise ArtefactError("they differ")

    with monkeypatch.context() as patch:
        patch.setattr("pistar.export.writing.verify", disagree)
        with pytest.raises(ArtefactError, match="they differ"):
            export(tmp_path, out)
    assert [found.name for found in tmp_path.iterdir()] == ["policy.safetensors"]
    written = export(tmp_path, out)
    assert written.metadata["steps"] == 7
    assert written.metadata["task"] == "pendulum"
    first = out.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("pistar.export.writing.verify", disagree)
        with pytest.raises(ArtefactError, match="they differ"):
            export(tmp_path, out)
    assert out.read_bytes() == first
    assert sorted(found.name for found in tmp_path.iterdir()) == ["policy.onnx", "policy.safetensors"]
    again = ExportedPolicy.load(out)
    observation = look(policy.spaces.observation, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(again.act(observation)[0], written.act(observation)[0])
    assert again.sha256 == written.sha256


def test_a_place_that_cannot_be_is_refused_first(tmp_path: Path) -> None:
    for out, words in ((tmp_path / "policy.pt", "ends in .onnx"), (tmp_path / "no" / "a.onnx", "there is no folder")):
        with pytest.raises(UsageError, match=words):
            export(tmp_path, out)
