"""What is answered is what the policy does; what does not fit is refused in words, and never with a 500."""

import json

import numpy as np
import pytest

from .running import KINDS, running


def draw(space, seed: int):
    """A random observation as JSON."""
    space.seed(seed)
    return json.loads(json.dumps(space.sample(), default=lambda x: x.tolist()))


def as_json(tree):
    return json.loads(json.dumps(tree, default=lambda x: x.tolist()))


@pytest.mark.parametrize("kind", ["pole", "arm", "mixed"])
def test_actions_are_those_of_the_exported_policy(files, kind):
    policy, space = files.read(kind), KINDS[kind][0].observation
    observations = [draw(space, seed) for seed in range(7)]
    with running(files(kind)) as service:
        for observation in observations:
            answer = service.act(observation=observation)
            assert answer.status == 200, answer.body
            wanted, _ = policy.act(observation)
            assert close(answer.json["action"], as_json(wanted))
            assert answer.json["policy"] == policy.sha256
        many = service.act(observations=observations).json["actions"]
        assert all(close(action, as_json(policy.act(each)[0])) for action, each in zip(many, observations, strict=True))


def close(a, b) -> bool:
    """Equal trees, numbers to 1e-5."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    return bool(np.allclose(a, b, atol=1e-5))


def test_samples_follow_the_distribution_and_the_seed(pole):
    observation = [0.1, -0.2, 0.3, 0.4]
    answer = pole.act(observation=observation, distribution=True).json
    probability = answer["distribution"][0]["parameters"]["probability"]
    assert answer["action"] == int(np.argmax(probability))
    many = pole.act(observations=[observation] * 1000, deterministic=False).json["actions"]
    share = np.mean(np.array(many) == 1)
    assert abs(share - probability[1]) < 4 * np.sqrt(probability[0] * probability[1] / 1000)
    again = [pole.act(observations=[observation] * 50, deterministic=False, seed=5).json["actions"] for _ in range(2)]
    assert again[0] == again[1]
    assert again[0] != pole.act(observations=[observation] * 50, deterministic=False, seed=6).json["actions"]


WRONG = [  # body, status, and what the answer must say
    ({}, 422, "observation (one)"),
    ({"observation": [0.0] * 4, "observations": [[0.0] * 4]}, 422, "both"),
    ({"observation": [0.0] * 3}, 422, "shape (3,)"),
    ({"observation": [[0.0] * 4]}, 422, "shape (1, 4)"),
    ({"observation": 1.0}, 422, "shape ()"),
    ({"observation": [0.0, 0.0, 0.0, "0"]}, 422, "observation[3]"),
    ({"observation": [0.0, 0.0, True, 0.0]}, 422, "observation[2]"),
    ({"observation": [0.0, 0.0, None, 0.0]}, 422, "observation[2]"),
    ({"observation": [0.0, 0.0, 1e39, 0.0]}, 422, "finite"),
    ({"observation": {"x": 1}}, 422, "shape ()"),
    ({"observations": []}, 422, "observations"),
    ({"observations": [[0.0] * 4, [0.0] * 5]}, 422, "observations[1]"),
    ({"observations": [[0.0] * 4] * 1001}, 422, "1000"),
    ({"observation": [0.0] * 4, "determinstic": False}, 422, "did you mean 'deterministic'"),
    ({"observation": [0.0] * 4, "deterministic": 1}, 422, "deterministic"),
    ({"observation": [0.0] * 4, "seed": -1}, 422, "seed"),
    ({"observation": [0.0] * 4, "seed": 2**80}, 422, "seed"),
    ({"observation": [0.0] * 4, "session": 3}, 422, "session"),
    ({"observation": [0.0] * 4, "session": "x"}, 404, "POST /v1/sessions"),
    ({"observation": [0.0] * 4, "first": [True, False]}, 422, "first"),
    ([1, 2], 422, "object"),
    (b"", 400, "empty"),
    (b"{", 400, "JSON"),
    (b'{"observation": [NaN, 0, 0, 0]}', 400, "NaN"),
    (b'{"observation": [1e999, 0, 0, 0]}', 422, "range"),
    (b'{"observation": ' + b"[" * 5000, 400, "JSON"),
    (b'{"observation": ' + b"[" * 900 + b"]" * 900 + b"}", 422, "does not fit"),
    (b'{"observation": [0, 0, 0, 0], "session": "\xff"}', 400, "JSON"),
    (b'{"observation": [0, 0, 0, 0], "session": "\\ud800"}', 400, "JSON"),
]


@pytest.mark.parametrize(("body", "status", "words"), WRONG, ids=[str(each[0])[:40] for each in WRONG])
def test_a_body_that_does_not_fit_is_refused_in_words(pole, body, status, words):
    answer = pole.ask("POST", "/v1/act", body)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert words in " ".join(answer.json.values())
    assert answer.json["next"]


BENT = [
    (lambda o: o.pop("gear"), "gear"),
    (lambda o: o.update(horn=1), "horn"),
    (lambda o: o.update(gear=0), "from 1 to 3"),
    (lambda o: o.update(gear=1.5), "observation.gear"),
    (lambda o: o.update(lamps=[0, 1, 2]), "observation.lamps[2]"),
    (lambda o: o.update(level=256), "from 0 to 255"),
    (lambda o: o.update(switch=[2, 0]), "from 0 to 1"),
    (lambda o: o.update(switch=[0, 3]), "observation.switch[1]"),
    (lambda o: o.update({"angle [rad]": [[0.0, 0.0], [0.0]]}), "shape (2,)"),
]


def test_entries_of_composed_observations_are_named_where_they_do_not_fit(files):
    with running(files("mixed")) as service:
        for bend, words in BENT:
            observation = draw(KINDS["mixed"][0].observation, 0)
            bend(observation)
            answer = service.act(observation=observation)
            assert answer.status == 422
            assert words in " ".join(answer.json.values()), answer.json


def test_numbers_so_large_that_the_network_overflows_are_no_fault_of_the_service(files):
    with running(files("arm")) as service:
        for size in (1e30, 3e38):
            assert service.act(observation=[size, -size, size], distribution=True).status in (200, 422)


def test_what_is_large_goes_to_the_worker_and_is_the_same(files):
    policy = files.read("pole")
    observations = np.random.default_rng(0).normal(size=(900, 4)).round(3)
    with running(files("pole")) as service:
        service.serving.actor.seconds = 1.0
        actions = service.act(observations=observations.tolist()).json["actions"]
        assert service.serving.actor.seconds < 1.0  # it has learned how fast it is
    wanted, _ = policy.act(observations)
    assert np.mean(np.array(actions) == wanted) > 0.995  # ties apart


def test_a_body_of_many_packets_is_a_body_and_no_head(pole):
    body = json.dumps({"observations": [[0.125] * 4] * 1000, "seed": None}).encode() + b" " * 900_000
    assert len(pole.ask("POST", "/v1/act", body).json["actions"]) == 1000


def test_what_takes_too_long_is_given_up(files):
    with running(files("pole"), timeout=0.2) as service:
        actor = service.serving.actor
        actor.seconds = 1.0

        def slow(question, carried, options):
            import time

            deadline = time.monotonic() + 10
            while not options.terminate and time.monotonic() < deadline:
                time.sleep(0.01)
            raise RuntimeError("terminated")

        actor.infer = slow
        answer = service.act(observation=[0.0] * 4)
        assert answer.status == 503
        assert "too long" in answer.json["error"]
