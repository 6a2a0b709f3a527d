from collections.abc import Iterator

import pytest

from .running import Files, Running, running


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Files:
    """Exported policies by (kind, seed), each written once."""
    return Files(tmp_path_factory.mktemp("policies"))


@pytest.fixture(scope="module")
def pole(files) -> Iterator[Running]:
    """A service of a policy for CartPole that nobody trained."""
    with running(files("pole")) as service:
        yield service
