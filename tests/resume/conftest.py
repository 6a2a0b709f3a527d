from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resume.harness import Harness, serving

AT_ONCE = 3  # cases side by side


@pytest.fixture(scope="package")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    directory = tmp_path_factory.mktemp("resume")
    with serving(directory) as address:
        yield Harness(address, directory)


@pytest.fixture
def each() -> Callable[[Callable[..., None], Iterable[Any]], None]:
    """Check every case, a few at once; all failures are told together."""

    def call(check: Callable[[Any], None], cases: Iterable[Any]) -> None:
        listed = list(cases)
        assert listed
        with ThreadPoolExecutor(AT_ONCE) as threads:
            futures = [threads.submit(check, case) for case in listed]
        errors = [(case, future.exception()) for case, future in zip(listed, futures, strict=True)]
        failed = [f"{case}: {type(error).__name__}: {error}" for case, error in errors if error is not None]
        assert not failed, f"{len(failed)} of {len(listed)} cases failed:\n" + "\n".join(failed)

    return call
