"""Sessions: bounded, ended when idle, never forgetting in silence; memories that are those of the policy."""

import itertools
import time

import numpy as np
import pytest

from pistar.serve.refusals import Refusal
from pistar.serve.sessions import Sessions

from .running import running


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_full_store_refuses_and_leaves_those_in_use(clock):
    store = Sessions[int](2, 10.0, clock=clock)
    first, second = store.begin(1), store.begin(2)
    clock.now += 4
    store.use(second)
    with pytest.raises(Refusal, match="no room") as refused:
        store.begin(3)
    assert refused.value.status == 429
    assert dict(refused.value.headers)[b"retry-after"] == b"6"  # when the first, idle for longest, ends
    assert (store.use(first).value, store.use(second).value, store.refused) == (1, 2, 1)
    store.end(first)
    assert store.use(store.begin(3)).value == 3


def test_what_is_large_takes_more_room(clock):
    store = Sessions[int](10, 10.0, clock=clock)
    large = store.begin(1, 8)
    with pytest.raises(Refusal, match="no room"):
        store.begin(2, 3)
    store.begin(2, 2)
    store.end(large)
    assert store.size == 2
    store.begin(3, 8)
    clock.now += 10
    assert len(store) == store.size == 0


def test_sessions_end_when_they_were_idle_and_not_before(clock):
    store = Sessions[int](10, 10.0, clock=clock)
    used, idle = store.begin(1), store.begin(2)
    for _ in range(5):
        clock.now += 6
        store.use(used)
    assert len(store) == 1
    assert store.expired == 1
    with pytest.raises(Refusal, match="no such session") as refused:
        store.use(idle)
    assert refused.value.status == 404
    clock.now += 9.9
    assert len(store) == 1
    clock.now += 0.1
    assert len(store) == 0


def test_a_session_that_a_request_is_using_does_not_end(clock):
    store = Sessions[int](2, 10.0, clock=clock)
    name = store.begin(1)
    entry = store.use(name)
    entry.busy = True
    clock.now += 100
    assert len(store) == 1
    entry.busy = False
    assert store.make_room() is None  # there is room
    store.begin(2)
    assert store.make_room() == 1


def test_names_cannot_be_guessed_and_are_never_used_again():
    store = Sessions[int](1000, 10.0)
    names = {store.begin(i) for i in range(1000)}
    assert len(names) == 1000
    assert min(map(len, names)) >= 24


# ---- over HTTP -------------------------------------------------------------------------------------------------------


def test_memory_goes_on_within_a_session_and_begins_anew_where_it_is_told(files):
    policy = files.read("memory")
    observations = np.random.default_rng(0).normal(size=(30, 4)).round(4)
    with running(files("memory")) as service:
        session = service.ask("POST", "/v1/sessions").json["session"]
        other = service.ask("POST", "/v1/sessions", {"lanes": 1}).json["session"]
        memory = None
        for step, observation in enumerate(observations.tolist()):
            if step == 17:
                memory = None
            answer = service.act(observation=observation, session=session, first=step in (0, 17), distribution=True)
            service.act(observation=[9.0] * 4, session=other)  # has a memory of its own
            wanted, memory = policy.act(np.float32(observation), memory)
            assert answer.json["action"] == wanted
        assert float(np.abs(service.serving.sessions.use(session).value.memory[next(iter(memory))]).max()) > 0
        for name, array in memory.items():
            assert np.allclose(service.serving.sessions.use(session).value.memory[name], array, atol=1e-6)


def test_lanes_of_a_session_begin_their_episodes_apart(files):
    policy = files.read("memory")
    draws = np.random.default_rng(1).normal(size=(12, 2, 4)).astype(np.float32)
    with running(files("memory")) as service:
        session = service.ask("POST", "/v1/sessions", {"lanes": 2}).json["session"]
        memories = [None, None]
        for step, pair in enumerate(draws):
            first = [step == 0, step in (0, 5)]
            answer = service.act(observations=pair.tolist(), session=session, first=first)
            for lane in range(2):
                wanted, memories[lane] = policy.act(pair[lane], None if first[lane] else memories[lane])
                assert answer.json["actions"][lane] == wanted
        refused = service.act(observations=draws[0, :1].tolist(), session=session)
        assert refused.status == 422
        assert "2 of them" in refused.json["expected"]


def test_what_a_memory_needs_is_said(files):
    with running(files("memory"), sessions=1, session_idle=0.3) as service:
        refused = service.act(observation=[0.0] * 4)
        assert refused.status == 422
        assert "POST /v1/sessions" in refused.json["next"]
        session = service.ask("POST", "/v1/sessions").json["session"]
        full = service.ask("POST", "/v1/sessions")
        assert (full.status, full.headers["retry-after"]) == (429, "1")
        assert service.act(observation=[0.0] * 4, session=session).status == 200
        time.sleep(0.4)
        assert service.act(observation=[0.0] * 4, session=session).status == 404
        assert service.metric("pistar_sessions_expired") == 1
        session = service.ask("POST", "/v1/sessions").json["session"]
        assert service.ask("DELETE", f"/v1/sessions/{session}").status == 204
        assert service.ask("DELETE", f"/v1/sessions/{session}").status == 404
        assert service.ask("POST", "/v1/sessions", {"lanes": 0}).status == 422
        assert service.ask("POST", "/v1/sessions", {"lanes": 10**9}).status == 422


def test_one_request_of_a_session_at_a_time(files):
    with running(files("memory")) as service:
        session = service.ask("POST", "/v1/sessions").json["session"]
        service.serving.sessions.use(session).busy = True
        assert service.act(observation=[0.0] * 4, session=session).status == 409


def test_noise_that_is_held_is_held_within_a_session(files):
    with running(files("gsde")) as service:
        session = service.ask("POST", "/v1/sessions").json["session"]
        carried = service.serving.sessions.use(session).value
        assert list(carried.actor.held.values()) == [3]
        noises = []
        for step in range(9):
            answer = service.act(observation=[0.1, 0.2, 0.3], session=session, deterministic=False, first=step == 7)
            assert answer.status == 200
            noises.append(next(iter(carried.noise.values())).ravel()[0])
        changes = [a != b for a, b in itertools.pairwise(noises)]
        assert changes == [False, False, True, False, False, True, True, False]  # at 3, 6, and where 7 begins anew
