"""A policy file is whole and as it was written, or it is refused, and loading one never runs code that it names."""

import contextlib
import hashlib
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from pistar import artefact, serialization
from pistar.checkpoint import Checkpoints
from pistar.envs.environment import Spaces
from pistar.errors import ArtefactError, StorageError, UsageError
from pistar.evaluation import task_of
from pistar.policies.mlp import MLP
from pistar.policy import Policy

PROVENANCE = {"task": {"kind": "gymnasium", "id": "CartPole-v1"}, "steps": 7}


def made(seed: int = 0, **settings: Any) -> Policy:
    world = gymnasium.make("CartPole-v1")
    kind = MLP(hidden=(4,), **settings)
    policy = kind.build(Spaces(world.observation_space, world.action_space), torch.Generator().manual_seed(seed))
    policy.absorb(torch.randn(50, 4, generator=torch.Generator().manual_seed(1)))
    return policy


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.safetensors"
    artefact.save(made(), path, PROVENANCE)
    return path


def header_end(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def rewritten(path: Path, change: Any, *, sign: bool) -> None:
    """Change the metadata of a file; with ``sign`` the checksum is made to fit again, as a forger would."""
    data = path.read_bytes()
    end = header_end(data)
    head = json.loads(data[8:end])
    metadata = head["__metadata__"]
    change(metadata)
    if sign:
        metadata.pop("sha256", None)
        tensors = {}
        with serialization.safe_open(path, framework="pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a dict
        metadata["sha256"] = serialization._digest(tensors, metadata)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


def change_header(path: Path, **values: Any) -> None:
    """Replace entries of pistar's own header, checksum and all."""

    def change(metadata: dict[str, str]) -> None:
        metadata["header"] = json.dumps({**json.loads(metadata["header"]), **values})

    rewritten(path, change, sign=True)


# ---- as written ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_policy_comes_back_bit_for_bit_with_all_that_acting_needs(tmp_path: Path, dtype: torch.dtype):
    policy = made().to(dtype)
    artefact.save(policy, tmp_path / "p.safetensors", PROVENANCE)
    again = artefact.load(tmp_path / "p.safetensors")
    assert again.kind == policy.kind
    assert again.spaces == policy.spaces
    assert not again.training
    mine, theirs = policy.state_dict(), again.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) and mine[name].dtype == theirs[name].dtype for name in mine)
    observation = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    assert np.array_equal(policy.act(observation)[0], again.act(observation)[0])


def test_equal_policies_give_equal_files_and_others_do_not(file: Path, tmp_path: Path):
    artefact.save(made(), tmp_path / "again.safetensors", PROVENANCE)
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    artefact.save(made(seed=1), tmp_path / "again.safetensors", PROVENANCE)
    assert (tmp_path / "again.safetensors").read_bytes() != file.read_bytes()


def test_a_run_directory_stands_for_its_policy_and_provenance_is_told(file: Path):
    assert artefact.load(file.parent).kind == artefact.load(str(file)).kind
    told = artefact.provenance(file)
    assert told == artefact.provenance(file.parent)
    assert told["steps"] == 7
    assert told["torch"] == torch.__version__
    assert task_of(file).id == "CartPole-v1"


def test_a_file_that_is_written_anew_is_replaced_whole_or_not_at_all(file: Path, monkeypatch):
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(
            StorageError, match=r"cannot write .*policy\.safetensors: No space left on device"
        ) as caught:
            artefact.save(made(seed=2), file)
    assert caught.value.exit_code == 5
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]  # nothing half written is left beside it


# ---- damage ----------------------------------------------------------------------------------------------------------


def test_a_file_that_is_cut_anywhere_is_refused(file: Path, tmp_path: Path):
    data, cut = file.read_bytes(), tmp_path / "cut.safetensors"
    end = header_end(data)
    places = {*range(20), *range(20, len(data), 61), *range(end - 9, end + 9), *range(len(data) - 20, len(data))}
    for length in sorted(places):
        cut.write_bytes(data[:length])
        with pytest.raises(ArtefactError, match="Use another copy"):
            artefact.load(cut)
    for longer in (data + b"\0", data + data):
        cut.write_bytes(longer)
        with pytest.raises(ArtefactError):
            artefact.load(cut)


def test_one_changed_bit_anywhere_is_noticed(file: Path, tmp_path: Path):
    data, changed = file.read_bytes(), tmp_path / "changed.safetensors"
    end = header_end(data)
    original = artefact.load(file).state_dict()
    places = itertools.chain(range(8), range(8, end, 7), range(end, len(data), 5))
    for place in places:
        bad = bytearray(data)
        bad[place] ^= 1 << (place % 8)
        changed.write_bytes(bad)
        with contextlib.suppress(ArtefactError):
            loaded = artefact.load(changed).state_dict()
            # Only the spelling of the header may differ without being noticed, nothing that it says.
            assert place < end
            assert all(torch.equal(loaded[name], original[name]) for name in original)


@pytest.mark.parametrize("place", ["first tensor byte", "last tensor byte"])
def test_an_altered_weight_is_called_altered(file: Path, place: str):
    data = bytearray(file.read_bytes())
    data[header_end(data) if place.startswith("first") else -1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtefactError, match="does not match its checksum: it was altered or damaged"):
        artefact.load(file)


def test_what_is_no_policy_file_is_called_by_what_it_is(file: Path, tmp_path: Path):
    with pytest.raises(ArtefactError, match=r"absent\.safetensors: no such file"):
        artefact.load(tmp_path / "absent.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtefactError, match=r"policy\.safetensors: no such file"):
        artefact.load(tmp_path / "empty")
    Checkpoints(tmp_path / "checkpoints").save(1, {"x": torch.zeros(1)})
    with pytest.raises(ArtefactError, match="expected a pistar-policy file, received pistar-checkpoint"):
        artefact.load(next((tmp_path / "checkpoints").iterdir()))
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ArtefactError, match="expected a pistar-policy file, received a file without that mark"):
        artefact.load(tmp_path / "foreign.safetensors")
    (tmp_path / "text").write_text("hello, I am no policy")
    with pytest.raises(ArtefactError, match="is not a whole pistar-policy file"):
        artefact.load(tmp_path / "text")
    torch.save({"x": 1}, tmp_path / "pickle.pt")
    with pytest.raises(ArtefactError, match="is not a whole pistar-policy file"):
        artefact.load(tmp_path / "pickle.pt")


def test_another_format_version_says_which_one_is_read(file: Path):
    rewritten(file, lambda metadata: metadata.update(version="99"), sign=True)
    with pytest.raises(ArtefactError, match=r"format version 99; this pistar reads version 1\. Use the pistar version"):
        artefact.load(file)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"policy": {"kind": "mpl"}}, "the kind 'mpl', which this pistar does not have"),
        ({"policy": {"kind": "mlp", "hiden": [4]}}, "unknown key .* 'hiden'; did you mean 'hidden'"),
        ({"policy": {"kind": "mlp", "hidden": [5]}}, "does not fit the policy that it describes"),
        ({"policy": {}}, "does not fit"),
        ({"policy": 3}, "does not fit"),
        ({"dtype": "float16"}, "does not fit"),
        ({"action_space": {"type": "Teapot"}}, "malformed space"),
        ({"observation_space": None}, "malformed space"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused_by_the_files_name(file: Path, values: dict[str, Any], message: str):
    change_header(file, **values)
    with pytest.raises(ArtefactError, match=message) as caught:
        artefact.load(file)
    assert str(file) in str(caught.value)


# ---- code of one's own -----------------------------------------------------------------------------------------------

MODULE = '''
from dataclasses import dataclass
from pathlib import Path
from pistar.policies.mlp import MLP

Path(__file__).with_name("imported").touch()


@dataclass(frozen=True)
class Mine(MLP):
    """An MLP under a name of its own."""
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch) -> Path:
    """The policy file of a kind in the module ``my_policies``, which is not imported."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "my_policies.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    import my_policies

    world = gymnasium.make("CartPole-v1")
    kind = my_policies.Mine(hidden=(4,))
    policy = kind.build(Spaces(world.observation_space, world.action_space), torch.Generator().manual_seed(0))
    artefact.save(policy, folder / "policy.safetensors", PROVENANCE)
    forget(folder)
    return folder


def forget(folder: Path) -> None:
    sys.modules.pop("my_policies", None)
    (folder / "imported").unlink(missing_ok=True)


def test_code_that_a_file_names_is_not_imported_unless_it_is_trusted(own: Path):
    for trust in (None, "my_policies:Other", "my_policies", "mlp"):
        with pytest.raises(
            ArtefactError, match=r"nothing was imported\. If you trust it, say so: --trust my_policies:Mine"
        ):
            artefact.load(own, trust)
        assert "my_policies" not in sys.modules
        assert not (own / "imported").exists()
    policy = artefact.load(own, "my_policies:Mine")
    assert (own / "imported").exists()
    assert type(policy.kind).__name__ == "Mine"
    forget(own)


def test_trusted_code_must_still_be_what_it_was(own: Path):
    source = own / "my_policies.py"
    source.write_text(source.read_text() + "\n# changed\n")
    with pytest.raises(ArtefactError, match="written with another version of my_policies:Mine's source"):
        artefact.load(own, "my_policies:Mine")
    forget(own)


def test_a_forged_file_cannot_smuggle_in_code_as_a_task(file: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for task in ({"kind": "gymnasium", "id": "evil:World"}, {"kind": "evil:Task"}):
        change_header(file, provenance={"task": task})
        with pytest.raises(UsageError, match="pass --task NAME"):
            task_of(file)
        change_header(file, policy={"kind": "evil:Kind"})
        with pytest.raises(ArtefactError, match="nothing was imported"):
            artefact.load(file)
    assert not (tmp_path / "ran").exists()


def test_the_checksum_is_over_names_types_shapes_bytes_and_words(tmp_path: Path):
    def digest(state: dict[str, Any], header: dict[str, Any] | None = None) -> str:
        serialization.write(tmp_path / "x", state, "kind", header)
        return hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()

    states = [{"a": torch.zeros(4)}, {"b": torch.zeros(4)}, {"a": torch.zeros(2, 2)}, {"a": torch.zeros(4).int()}]
    states += [{"a": torch.tensor([0.0, 0.0, 0.0, -0.0])}, {"a": torch.zeros(4), "n": 1}]
    assert len({digest(state) for state in states} | {digest(states[0], {"x": 1})}) == len(states) + 1


def test_every_kind_of_space_survives_in_a_policy(tmp_path: Path):
    for action in (spaces.Discrete(3, start=2), spaces.Box(-2.0, 1.0, (2,)), spaces.MultiDiscrete([2, 3])):
        pair = Spaces(spaces.Box(-1.0, 1.0, (3,)), action)
        policy = MLP(hidden=(4,)).build(pair, torch.Generator().manual_seed(0))
        artefact.save(policy, tmp_path / "p.safetensors")
        again = artefact.load(tmp_path / "p.safetensors")
        assert again.spaces == pair
        observation = np.full(3, 0.5, np.float32)
        chosen = again.act(observation)[0]
        assert np.array_equal(chosen, policy.act(observation)[0])
        assert action.contains(chosen if action.shape else int(chosen))
