"""The task on the page: acted by the served policy, in a process that may die, and only pistar's own."""

import base64
import os
import signal

import pytest

from pistar.errors import UsageError
from pistar.serve.plays import MOST, task_table

from .running import running


@pytest.fixture(scope="module")
def played(files):
    with running(files("cartpole"), play=True) as service:
        yield service


def begun(service):
    answer = service.ask("POST", "/v1/plays", {"seed": 5})
    assert answer.status == 201, answer.body
    return answer.json


def test_an_episode_is_the_policys_own_from_beginning_to_end(files, played):
    policy, play = files.read("cartpole"), begun(played)
    assert base64.b64decode(play["frame"].partition(",")[2]).startswith(b"\xff\xd8\xff")  # a JPEG
    seen, total, steps, ended = play["observation"], 0.0, 0, None
    while not ended:
        step = played.ask("POST", f"/v1/plays/{play['play']}", {}).json
        assert step["seen"] == seen
        assert step["action"] == policy.act(seen)[0]
        assert step["distribution"][0]["family"] == "categorical"
        seen, total, steps, ended = step["observation"], total + step["reward"], steps + 1, step["ended"]
        assert (step["return"], step["steps"]) == (total, steps)
    assert ended == "terminated"
    assert played.ask("POST", f"/v1/plays/{play['play']}", {}).json["steps"] == 1  # of the next one
    again = begun(played)
    assert again["observation"] == play["observation"]  # the same seed
    many = played.ask("POST", f"/v1/plays/{again['play']}", {"steps": 5, "deterministic": False}).json
    assert many["steps"] == 5
    assert played.ask("DELETE", f"/v1/plays/{again['play']}").status == 204
    assert played.ask("POST", f"/v1/plays/{again['play']}", {}).status == 404


def test_new_episodes_end_those_that_were_idle_for_longest(played):
    names = [begun(played)["play"] for _ in range(MOST + 2)]
    statuses = [played.ask("POST", f"/v1/plays/{name}", {}).status for name in names]
    assert statuses == [404, 404] + [200] * MOST
    assert played.metric("pistar_sessions") == MOST


def test_a_world_that_dies_is_said_and_begun_anew(played):
    play = begun(played)["play"]
    os.kill(played.plays.process.pid, signal.SIGKILL)
    answer = played.ask("POST", f"/v1/plays/{play}", {})
    assert answer.status == 503
    assert "died" in answer.json["received"]
    assert played.ask("POST", f"/v1/plays/{play}", {}).status == 404
    assert played.ask("POST", f"/v1/plays/{begun(played)['play']}", {}).status == 200
    assert played.act(observation=[0.0] * 4).status == 200


def test_requests_that_do_not_fit(played):
    play = begun(played)["play"]
    assert played.ask("POST", "/v1/plays", {"seed": -1}).status == 422
    assert played.ask("POST", f"/v1/plays/{play}", {"steps": 0}).status == 422
    assert played.ask("POST", f"/v1/plays/{play}", {"step": 1}).status == 422
    assert "/v1/plays" in played.ask("GET", "/openapi.json").json["paths"]


def test_nothing_is_played_unless_it_was_asked_for(pole):
    assert pole.ask("POST", "/v1/plays", {}).status == 404
    assert pole.ask("GET", "/v1/policy").json["play"] is None


def test_a_task_that_does_not_fit_the_policy_is_refused(files):
    with pytest.raises(UsageError, match="the policy is for"), running(files("arm"), play=True):
        pass


@pytest.mark.parametrize(
    "table",
    [
        {"kind": "os:system"},
        {"kind": "gymnasium", "id": "evil_module:Environment-v0"},
        {"kind": "gymnasium", "id": "Ant-v5", "options": {"xml_file": "/etc/passwd"}},
        {"kind": "gymnasium", "id": "Ant-v5", "options": {"xml_file": "../secret.xml"}},
        {"kind": "gymnasium", "id": "Ant-v5", "options": {"a": [{"b": "~/x"}]}},
        {},
        None,
        "cartpole",
    ],
)
def test_a_policy_file_names_no_module_and_no_file(table):
    with pytest.raises(UsageError, match="--task NAME"):
        task_table({"provenance": {"task": table}}, None)
    assert task_table({"provenance": {"task": table}}, "cartpole") == {"kind": "cartpole"}


def test_a_kind_that_pistar_does_not_have_is_never_imported(files, tmp_path):
    from pistar.serve import stage

    with pytest.raises(UsageError, match="of pistar's own"):
        stage.Stage({"kind": "nothing"})
