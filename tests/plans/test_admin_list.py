"""What the admin's list of jobs costs beside a long history: statements, bytes, and what they read."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.plans import history

STATEMENTS = 12
BYTES = 2 * 1024 * 1024
SEVERAL = ["", "status=failed", "status=running", "all=&p=3"]


@pytest.fixture
def statements(admin_client: Any, connection: BaseDatabaseWrapper) -> Iterator[list[Any]]:
    """What goes to either database while the test looks."""
    with (
        CaptureQueriesContext(connection) as here,
        CaptureQueriesContext(connections["default"]) as there,
    ):
        yield [here, there]


@pytest.mark.parametrize("query", SEVERAL)
def test_the_list_of_jobs_beside_hundreds_of_thousands_is_few_statements(
    admin_client: Any, connection: BaseDatabaseWrapper, statements: list[Any], query: str
) -> None:
    """The budget of a page holds whatever the table has, and no page grows with it."""
    url = reverse("admin:django_tasks_seq_job_changelist")

    response = admin_client.get(f"{url}?{query}")

    assert response.status_code == 200
    assert len(response.context["cl"].result_list) <= 100
    assert sum(map(len, statements)) <= STATEMENTS
    assert len(response.content) <= BYTES
    assert history.FINISHED >= 100_000
