"""Plans are read in a database of their own, each test in a transaction that is rolled back."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks_seq import TaskSequence, register_sequence, registry
from tests.database.working import same
from tests.plans import history


@pytest.fixture(scope="session")
def filled(django_db_blocker: Any) -> Iterator[BaseDatabaseWrapper]:
    """The connection to that database, which is made once."""
    with django_db_blocker.unblock(), history.database() as connection:
        yield connection


@pytest.fixture
def connection(
    filled: BaseDatabaseWrapper, django_db_blocker: Any, settings: Any
) -> Iterator[BaseDatabaseWrapper]:
    """The jobs' database of this test, in a transaction."""
    settings.TASKS_SEQ = {"DATABASE": history.ALIAS}
    with django_db_blocker.unblock(), history.known(filled), registry.isolated():
        register_sequence(TaskSequence("plans", [(name, same) for name in ("one", "two", "three")]))
        with transaction.atomic(using=history.ALIAS):
            yield filled
            transaction.set_rollback(True, using=history.ALIAS)
