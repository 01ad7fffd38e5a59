"""S23: an error that is an attack costs its job a text of bounded size, and nobody else anything."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from django_tasks_seq import executor
from django_tasks_seq.models import Job, TaskAttempt, TaskStatus
from django_tasks_seq.testing import drain
from tests.admin.conftest import list_url, page_url
from tests.database.conftest import Declare
from tests.database.working import same

pytestmark = pytest.mark.django_db
LIMIT = 64 * 1024


class StrRaises(Exception):
    def __str__(self) -> str:
        raise SystemExit("not even its text")


class ReprRaises(Exception):
    def __repr__(self) -> str:
        raise RuntimeError


class StrIsNoText(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307 (that is the point)


class StrIsMore(Exception):
    """Each look at its text makes more of it."""

    def __str__(self) -> str:
        self.args = (*self.args, "x" * 10**6)
        return "".join(map(str, self.args))


class Hidden(Exception):
    """Its class says that it is something else, from elsewhere."""

    __module__ = "x" * 10**6
    __qualname__ = "<script>" * 1000


class BadCause(Exception):
    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no cause")


class BadTraceback(Exception):
    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        return "no traceback"


def circle() -> BaseException:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def chain() -> BaseException:
    error: BaseException = ValueError("0")
    for number in range(5000):
        following = ValueError(str(number))
        following.__cause__ = error
        error = following
    return error


def nested_group() -> BaseException:
    error: Exception = ValueError("leaf")
    for _ in range(300):
        error = ExceptionGroup("g" * 1000, [error] * 50)
    return error


class NamedMore(type):
    """A class whose names cannot be read."""

    def __getattribute__(cls, name: str) -> Any:
        if name in {"__qualname__", "__module__", "__name__"}:
            raise RuntimeError("no name")
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=NamedMore):
    """Its class has no name that could be asked for."""


ERRORS: dict[str, Callable[[], BaseException]] = {
    "30 MB": lambda: ValueError("x" * 30_000_000),
    "30 MB of lines": lambda: ValueError("\n" * 30_000_000),
    "30 MB of NUL": lambda: ValueError("\0" * 30_000_000),
    "surrogates": lambda: ValueError("\ud800" * 10**6),
    "bytes": lambda: ValueError(b"\xff" * 10**6),
    "str raises": StrRaises,
    "repr raises": lambda: ValueError(ReprRaises()),
    "str is no text": StrIsNoText,
    "str grows": lambda: StrIsMore("x"),
    "strange class": Hidden,
    "nameless class": Nameless,
    "cause raises": BadCause,
    "traceback is none": BadTraceback,
    "circle": circle,
    "5,000 causes": chain,
    "nested groups": nested_group,
    "notes": lambda: _with_notes(ValueError("x")),
}


def _with_notes(error: ValueError) -> ValueError:
    error.__notes__ = ["x" * 10**7, "\0", 7]  # type: ignore[list-item]
    return error


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_a_text_of_bounded_size(
    declare: Declare, admin_client: Client, name: str
) -> None:
    """The job fails with at most 64 KB of it, pages show it, and the job behind it runs."""

    def fails(payload: Any) -> Any:
        make = ERRORS[name]
        raise make()

    declare(fails, name="hostile", error_handler=lambda error: len(error.traceback))
    declare(same, name="canary")
    job, canary = executor.start_sequence("hostile", priority=1), executor.start_sequence("canary")
    drain()

    assert (job.refresh().status, canary.refresh().status) == ("FAILED", "SUCCESSFUL")
    attempt, row = TaskAttempt.objects.get(), TaskStatus.objects.get(job=job)
    assert 0 < len(attempt.traceback.encode()) <= LIMIT
    for text in (attempt.message, attempt.exception_class, row.error, job.error):
        assert len(text.encode()) <= LIMIT
    assert Job.objects.get(pk=job.pk).error_result == len(attempt.traceback)
    for url in (list_url(), page_url(job)):
        response = admin_client.get(url)
        assert response.status_code == 200
        assert len(response.content) < 400_000
