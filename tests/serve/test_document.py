"""The OpenAPI document is true: a fuzzer that was given nothing else finds neither a fault nor an answer that it does not name."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from .running import Running, running

schemathesis = pytest.importorskip("schemathesis")

# Valid by the schema and refused all the same, because a schema cannot say it: 1.0 where an integer is asked for (a number of
# another kind), as many `first` as observations, numbers at which the network overflows.
UNSAYABLE = [schemathesis.checks.positive_data_acceptance]


def fuzz(operation: Any, mode: Any, examples: int) -> None:
    """Send what the document allows, or forbids, and hold the answers against it."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case):
        case.call_and_validate(excluded_checks=UNSAYABLE if operation.body else [])

    send()


def refusals(service: Running) -> list[int]:
    return [status for _, status in service.serving.metrics.requests if status >= 500]


@pytest.mark.parametrize("kind", ["pole", "mixed", "memory"])
def test_a_fuzzer_finds_no_fault_and_nothing_undocumented(files, kind):
    modes = schemathesis.GenerationMode
    with running(files(kind), sessions=10_000) as service:
        schema = schemathesis.openapi.from_url(f"{service.address}/openapi.json")
        operations = [result.ok() for result in schema.get_all_operations()]
        assert len(operations) >= 7, [operation.label for operation in operations]
        for operation in operations:
            fuzz(operation, modes.POSITIVE, 60 if operation.path == "/v1/act" else 5)
            if operation.body:
                fuzz(operation, modes.NEGATIVE, 60 if operation.path == "/v1/act" else 10)
        counts = service.serving.metrics.requests
        assert counts["/v1/act", 404 if kind == "memory" else 200] > 0  # a session's name cannot be guessed
        assert counts["/v1/act", 422] > 5
        assert refusals(service) == []


def test_the_document_names_what_is_served(pole):
    document = pole.ask("GET", "/openapi.json").json
    body = document["paths"]["/v1/act"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["observation"]["minItems"] == 4
    assert body["properties"]["observations"]["maxItems"] == 1000
    assert "/v1/plays" not in document["paths"]
