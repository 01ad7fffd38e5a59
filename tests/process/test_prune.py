"""`manage.py tasks_seq prune` in a process of its own: signals, exit codes, missing tables."""

import signal
from collections.abc import Callable

import pytest
from django.core.management import call_command
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks_seq.models import Job
from tests.factories import JobFactory
from tests.helpers import WorkerProcess, wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

Run = Callable[..., WorkerProcess]


@pytest.fixture
def prune(worker_process: Run) -> Run:
    """Start `manage.py tasks_seq prune …`."""

    def start(*args: str, **options: object) -> WorkerProcess:
        return worker_process("prune", *args, command="tasks_seq", **options)

    return start


def old(number: int) -> None:
    for _ in range(number):
        JobFactory.create(age=40 * 86_400, took=0, successful=True, history=1)


def test_it_deletes_and_ends_with_0(prune: Run) -> None:
    """Every old job with its rows; two can be started at once."""
    old(60)

    both = [prune("--older-than", "30d"), prune("--older-than", "30d")]

    assert [one.wait() for one in both] == [0, 0], [one.output() for one in both]
    assert not Job.objects.exists()


@pytest.mark.postgresql
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_between_two_batches(
    prune: Run, other_connection: BaseDatabaseWrapper, number: signal.Signals
) -> None:
    """A batch that has begun is committed; the exit code is 130 and no traceback is shown."""
    old(50)
    with other_connection.cursor() as cursor:
        cursor.execute("BEGIN")
        # It looks for its first batch and has to wait.
        cursor.execute(f"LOCK TABLE {Job._meta.db_table} IN ACCESS EXCLUSIVE MODE")
        process = prune()
        wait_until_blocked()
        process.send_signal(number)
        cursor.execute("ROLLBACK")

    assert process.wait() == 130, process.output()
    assert process.output().splitlines()[:2] == [
        "Stopped between two batches; run it again to go on.",
        (
            "Deleted 20 settled jobs that ended more than 30 days ago,"
            " with 20 task statuses, 0 attempts and 0 events."
        ),
    ]
    assert Job.objects.count() == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--older-than=30"], "'30' has no unit"),
        (["--status=ready"], "'ready' is no final status"),
        (["--database=nowhere"], "DATABASES lacks"),
    ],
)
def test_a_mistyped_command_ends_with_2(prune: Run, arguments: list[str], message: str) -> None:
    """Before anything is deleted."""
    old(1)
    process = prune(*arguments)

    assert process.wait() == 2, process.output()
    assert message in process.output()
    assert "Traceback" not in process.output()
    assert Job.objects.count() == 1


def test_missing_tables_are_said_as_by_the_worker(prune: Run, worker_process: Run) -> None:
    """Both commands end with 1 and name the command that helps."""
    call_command("migrate", "django_tasks_seq", "zero", database="default", verbosity=0)
    try:
        said = []
        for process in (prune(), worker_process("--burst")):
            assert process.wait() == 1, process.output()
            said.append(process.output().splitlines()[-1])
    finally:
        call_command("migrate", "django_tasks_seq", database="default", verbosity=0)

    assert said[0] == said[1]
    assert said[0].endswith("Run: python manage.py migrate django_tasks_seq")
