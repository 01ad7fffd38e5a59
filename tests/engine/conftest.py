"""The engine in threads of the test, on committed rows, with sequences that each test declares."""

from collections.abc import Iterator

import pytest

from django_tasks_seq import registry


@pytest.fixture(autouse=True)
def _sequences_of_the_test(transactional_db: None) -> Iterator[None]:
    with registry.isolated():
        yield
