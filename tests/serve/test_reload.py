"""A newer policy is served without a lost request; one that cannot be is not, and that is said."""

import os
import shutil
import threading
import time

import pytest

from pistar.errors import ArtefactError, UsageError
from pistar.serve.service import KEPT

from .running import Running, running, save_policy

OBSERVATION = [0.3, -0.2, 0.1, 0.4]


def put(source, target) -> None:
    """Replace a file at once, as careful writers do."""
    beside = target.with_suffix(".new")
    shutil.copy(source, beside)
    os.replace(beside, target)


def until(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


@pytest.fixture
def live(files, tmp_path):
    path = tmp_path / "policy.onnx"
    put(files("pole", 0), path)
    with running(path) as service:
        yield service, path


def digest(service: Running) -> str:
    return service.act(observation=OBSERVATION).json["policy"]


def test_no_request_is_lost_while_policies_are_replaced_under_load(files, live):
    service, path = live
    wanted = {files.read("pole", seed).sha256: int(files.read("pole", seed).act(OBSERVATION)[0]) for seed in (0, 1)}
    answers, stop = [], threading.Event()

    def load() -> None:
        while not stop.is_set():
            answers.append(service.act(observation=OBSERVATION))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 7):
        put(files("pole", number % 2), path)
        until(lambda number=number: service.serving.metrics.reloads["accepted"] == number)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(answers) > 50
    assert {answer.status for answer in answers} == {200}
    assert {answer.json["policy"] for answer in answers} == set(wanted)
    assert all(answer.json["action"] == wanted[answer.json["policy"]] for answer in answers)


def damaged(data: bytes) -> dict[str, bytes]:
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0x10
    return {"empty": b"", "half": data[: len(data) // 2], "flipped": bytes(flipped), "other": b"PK\x03\x04" + data[4:]}


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "other"])
def test_a_damaged_policy_leaves_the_one_before(files, live, damage):
    service, path = live
    before = digest(service)
    path.write_bytes(damaged(files("pole", 1).read_bytes())[damage])
    until(lambda: service.metric("pistar_newest_policy_refused") == 1)
    assert digest(service) == before
    assert service.metric('pistar_reloads_total{outcome="refused"}') == 1
    assert "policy.onnx" in service.ask("GET", "/v1/policy").json["newest_refused"]
    put(files("pole", 1), path)
    until(lambda: digest(service) != before)
    assert service.metric("pistar_newest_policy_refused") == 0
    assert service.ask("GET", "/v1/policy").json["newest_refused"] is None


def test_a_policy_of_other_spaces_or_with_a_memory_is_refused(files, live):
    service, path = live
    before = digest(service)
    for number, kind in enumerate(("arm", "memory"), 1):
        put(files(kind), path)
        until(lambda number=number: service.metric('pistar_reloads_total{outcome="refused"}') == number)
        assert digest(service) == before


def test_a_file_that_goes_away_or_is_touched_changes_nothing(files, live):
    service, path = live
    before = digest(service)
    path.unlink()
    time.sleep(0.2)
    assert digest(service) == before
    put(files("pole", 0), path)
    time.sleep(0.3)
    assert digest(service) == before
    assert sum(service.serving.metrics.reloads.values()) == 0


def test_what_was_refused_is_logged(files, live, caplog):
    service, path = live
    path.write_bytes(b"no policy")
    until(lambda: service.serving.metrics.refused)
    assert any("the one before goes on" in record.getMessage() for record in caplog.records)


def test_without_reload_the_first_policy_stays(files, tmp_path):
    path = tmp_path / "policy.onnx"
    put(files("pole", 0), path)
    with running(path, reload=False) as service:
        before = digest(service)
        put(files("pole", 1), path)
        time.sleep(0.3)
        assert digest(service) == before


def test_an_episode_ends_under_the_policy_that_it_began_with(files, tmp_path):
    path = tmp_path / "policy.onnx"
    put(files("memory", 0), path)
    old, new = files.read("memory", 0), files.read("memory", 1)
    with running(path) as service:
        session = service.ask("POST", "/v1/sessions").json["session"]
        memory = None

        def step(first: bool = False):
            return service.act(observation=OBSERVATION, session=session, first=first).json

        for _ in range(3):
            wanted, memory = old.act(OBSERVATION, memory)
            assert step()["action"] == wanted
        put(files("memory", 1), path)
        until(lambda: service.serving.actor.sha256 == new.sha256)
        for _ in range(3):
            wanted, memory = old.act(OBSERVATION, memory)
            assert step() == {"action": wanted, "policy": old.sha256}
        assert step(first=True) == {"action": new.act(OBSERVATION)[0], "policy": new.sha256}


def test_old_policies_are_kept_for_their_sessions_up_to_a_number(files):
    with running(files("memory")) as service:
        serving, actor = service.serving, service.serving.actor
        names = []
        for _ in range(KEPT + 3):
            names.append(serving.begin(1))
            serving.replace(type(actor)(actor.policy, 10))
        alive = [name in serving.sessions._entries for name in names]
        assert alive == [False] * 3 + [True] * KEPT


# ---- at the start ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "other"])
def test_a_damaged_policy_at_the_start_is_refused(files, tmp_path, damage):
    path = tmp_path / "policy.onnx"
    path.write_bytes(damaged(files("pole").read_bytes())[damage])
    with pytest.raises(ArtefactError, match=r"policy\.onnx"), running(path):
        pass


def test_what_is_no_policy_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such file"), running(tmp_path / "policy.onnx"):
        pass
    with pytest.raises(UsageError, match=r"no policy\.safetensors"), running(tmp_path):
        pass


def test_a_port_that_is_taken_is_named(files, pole):
    with pytest.raises(UsageError, match=f"port {pole.port}"), running(files("pole"), port=pole.port):
        pass


def test_a_run_is_exported_and_again_when_it_is_newer(tmp_path):
    save_policy(tmp_path / "policy.safetensors", "pole", 0)
    with running(tmp_path) as service:
        before = digest(service)
        save_policy(tmp_path / "policy.safetensors", "pole", 1)
        until(lambda: digest(service) != before, 60)
        (tmp_path / "policy.safetensors").write_bytes(b"no policy")
        until(lambda: service.serving.metrics.refused, 60)
        assert "cannot be exported" in service.serving.complaint
        assert digest(service) != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy.safetensors"]  # nothing is left beside it
