"""What MariaDB would do differently if it were let: text, times, versions."""

import io
from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from django_tasks_seq import executor
from django_tasks_seq.models import Job
from tests.database.conftest import Declare
from tests.database.working import same
from tests.helpers import InThread

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db]


def test_keys_are_compared_letter_by_letter(declare: Declare) -> None:
    """Neither case nor a space at the end makes two keys one, as nowhere else."""
    declare(same)
    keys = ["a", "A", "a ", "ä", "Ä"]

    jobs = executor.start_many("probe", [None] * len(keys), idempotency_keys=keys)

    assert len({job.pk for job in jobs}) == len(keys)
    assert executor.start_sequence("probe", idempotency_key="A").pk == jobs[1].pk


def test_queues_are_compared_letter_by_letter(declare: Declare) -> None:
    """A worker of one queue does not take jobs of another that differs in case."""
    declare(same)
    job = executor.start_sequence("probe", queue="Mail")

    assert executor.store().claim(("mail",), 5, 60, None) == []
    assert [one.job_id for one in executor.store().claim(("Mail",), 5, 60, None)] == [job.pk]


def test_any_character_comes_back(declare: Declare) -> None:
    """Payloads are text of four bytes a character."""
    declare(same)
    job = executor.start_sequence("probe", {"text": "🚀 ä \\ ' \" %s"})

    assert Job.objects.get(pk=job.pk).payload == {"text": "🚀 ä \\ ' \" %s"}


def test_a_time_with_a_zone_is_kept_as_the_moment_it_is(declare: Declare) -> None:
    """Whatever the zone of the server, of the caller and of the site."""
    declare(same)
    due = datetime(2031, 5, 6, 12, 30, tzinfo=timezone(timedelta(hours=-7)))

    job = executor.start_sequence("probe", run_after=due)

    assert job.run_after == due
    assert Job.objects.get(pk=job.pk).run_after == due.astimezone(UTC)


def test_many_large_payloads_are_more_than_one_statement(declare: Declare) -> None:
    """The server refuses a statement of 16 MB."""
    declare(same)
    jobs = executor.start_many("probe", ["x" * 900_000] * 24)

    assert Job.objects.filter(pk__in=[job.pk for job in jobs]).count() == 24


@pytest.mark.django_db(transaction=True)
def test_a_start_whose_key_is_taken_waits_for_nobody(declare: Declare) -> None:
    """The job that has the key is read before: an INSERT would lock its row, and wait for who holds it."""
    declare(same)
    first = executor.start_sequence("probe", idempotency_key="taken")

    with transaction.atomic():
        Job.objects.select_for_update().get(pk=first.pk)
        again = InThread(executor.start_sequence, "probe", idempotency_key="taken").result()

    assert (again.pk, again.was_started) == (first.pk, False)


@pytest.mark.django_db(transaction=True)
def test_sqlmigrate_shows_what_is_done_to_it() -> None:
    """Migration 0003: characters, exact text, indexes; backwards as it was."""
    out = io.StringIO()
    call_command("sqlmigrate", "django_tasks_seq", "0003", stdout=out)

    assert "COLLATE utf8mb4_nopad_bin" in out.getvalue()
    assert f"ALTER TABLE `{Job._meta.db_table}` DROP INDEX `tseq_job_claim`" in out.getvalue()
    assert connection.vendor == "mysql"
