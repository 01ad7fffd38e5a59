"""Rows as the engine leaves them, made without it: for tests of what is read from rows.

`JobFactory.create(failed=True, history=2)` is a job whose first two tasks succeeded and whose third failed
after three attempts; every trait keeps the constraints of the models.
"""

from datetime import timedelta
from typing import Any

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from django_tasks_seq.choices import AttemptOutcome, JobStatus, Requested, TaskState
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus, Worker

PLAN = [
    "validate_order",
    "charge_card",
    "reserve_stock",
    "make_invoice_pdf",
    "make_thumbnails",
    "book_shipping",
    "send_email",
]
EXCEPTION = "shop.errors.WarehouseUnavailable"
MESSAGE = "HTTP 503 from warehouse AMS-1"
ERROR = f"WarehouseUnavailable: {MESSAGE}"
TRACEBACK = f"""Traceback (most recent call last):
  File "shop/tasks.py", line 42, in reserve_stock
    warehouse.reserve(order.lines)
  File "shop/warehouse.py", line 17, in reserve
    raise WarehouseUnavailable(response)
{EXCEPTION}: {MESSAGE}"""


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


class WorkerFactory(DjangoModelFactory[Worker]):
    """A worker that was seen just now; traits: draining, stopped, dead."""

    class Meta:
        model = Worker

    class Params:
        draining_now = factory.Trait(draining=True)
        stopped = factory.Trait(stopped_at=factory.LazyFunction(timezone.now))
        dead = factory.Trait(
            heartbeat_at=factory.LazyFunction(lambda: timezone.now() - timedelta(minutes=14))
        )

    pid = factory.Sequence(lambda n: 4100 + n)
    hostname = "web-1"
    name = factory.LazyAttribute(lambda o: f"{o.hostname}:{o.pid}")
    queues = ""
    concurrency = 4
    started_at = factory.LazyFunction(lambda: timezone.now() - timedelta(hours=2))
    heartbeat_at = factory.LazyFunction(timezone.now)


class JobFactory(DjangoModelFactory[Job]):
    """A READY job; traits: running, waiting, paused, successful, failed, cancelled, cancelling.

    `history=n` adds the rows of n tasks that succeeded and, as the status asks, of the task it stands
    at; `took` is in seconds.
    """

    class Meta:
        model = Job
        skip_postgeneration_save = True

    class Params:
        age = 120.0
        took = 3.8
        running = factory.Trait(
            status=JobStatus.RUNNING,
            begun=True,
            claim_token=1,
            worker=factory.SubFactory(WorkerFactory),
            lease_until=factory.LazyFunction(lambda: timezone.now() + seconds(60)),
        )
        begun = factory.Trait(started_at=factory.LazyAttribute(lambda o: o.created_at))
        ended = factory.Trait(
            begun=True,
            claim_token=1,
            finished_at=factory.LazyAttribute(lambda o: o.created_at + seconds(o.took)),
        )
        waiting = factory.Trait(
            status=JobStatus.WAITING,
            begun=True,
            claim_token=2,
            run_after=factory.LazyFunction(lambda: timezone.now() + seconds(45)),
        )
        cancelling = factory.Trait(running=True, requested=Requested.CANCEL)
        paused = factory.Trait(status=JobStatus.PAUSED)
        successful = factory.Trait(status=JobStatus.SUCCESSFUL, ended=True)
        failed = factory.Trait(status=JobStatus.FAILED, ended=True, error=ERROR)
        cancelled = factory.Trait(status=JobStatus.CANCELLED, ended=True)

    sequence = "fulfil_order"
    version = 3
    plan = factory.LazyFunction(lambda: list(PLAN))
    status = JobStatus.READY
    payload = factory.Sequence(lambda n: {"order_id": n})
    subject_label = factory.Sequence(lambda n: f"Order #{n}")
    created_by = "web /checkout/"
    created_at = factory.LazyAttribute(lambda o: timezone.now() - seconds(o.age))
    run_after = factory.LazyAttribute(lambda o: o.created_at)

    @factory.post_generation
    def history(self: Any, create: bool, done: int | None, **options: Any) -> None:
        if done is not None:
            begin = self.started_at or self.created_at
            for position, task_id in enumerate(self.plan[:done]):
                TaskStatusFactory.create(
                    job=self,
                    task_id=task_id,
                    position=position,
                    successful=True,
                    started_at=begin + seconds(0.45 * position),
                    finished_at=begin + seconds(0.45 * position + 0.4),
                )
            _stand_at(self, done, begin + seconds(0.45 * done), **options)


def _stand_at(job: Job, position: int, begin: Any, tries: int = 3) -> None:
    """The row, and attempts, of the task that the job stands at."""
    place = {"job": job, "position": position, "started_at": begin}
    if job.status == JobStatus.RUNNING:
        TaskStatusFactory.create(running=True, attempts=1, **place)
    elif job.status == JobStatus.WAITING:
        TaskStatusFactory.create(waiting=True, attempts=1, **place)
        attempts_of(job, position, begin, 1)
    elif job.status == JobStatus.FAILED:
        attempts = attempts_of(job, position, begin, tries)
        TaskStatusFactory.create(
            failed=True, attempts=tries, finished_at=attempts[-1].finished_at, **place
        )


def attempts_of(job: Job, position: int, begin: Any, count: int) -> list[TaskAttempt]:
    return [
        TaskAttemptFactory.create(
            job=job,
            task_id=job.plan[position],
            attempt=number + 1,
            started_at=begin + seconds(number * (number + 1) / 2),
            finished_at=begin + seconds(number * (number + 1) / 2 + 0.25),
        )
        for number in range(count)
    ]


class TaskStatusFactory(DjangoModelFactory[TaskStatus]):
    """A task's row; traits: running, waiting, successful, failed, skipped."""

    class Meta:
        model = TaskStatus

    class Params:
        running = factory.Trait(status=TaskState.RUNNING, finished_at=None)
        waiting = factory.Trait(status=TaskState.WAITING, error=ERROR, finished_at=None)
        successful = factory.Trait(status=TaskState.SUCCESSFUL, attempts=1, result={"ok": True})
        failed = factory.Trait(status=TaskState.FAILED, attempts=3, error=ERROR)
        skipped = factory.Trait(status=TaskState.SKIPPED)

    job = factory.SubFactory(JobFactory)
    position = 0
    task_id = factory.LazyAttribute(lambda o: o.job.plan[o.position])
    status = TaskState.READY
    worker_name = "web-1:4102"
    started_at = factory.LazyFunction(timezone.now)
    finished_at = factory.LazyAttribute(lambda o: o.started_at)


class TaskAttemptFactory(DjangoModelFactory[TaskAttempt]):
    """An attempt that failed; traits: timed_out, lost, superseded."""

    class Meta:
        model = TaskAttempt

    class Params:
        timed_out = factory.Trait(outcome=AttemptOutcome.TIMED_OUT)
        lost = factory.Trait(
            outcome=AttemptOutcome.LOST, exception_class="", message="", traceback=""
        )
        superseded = factory.Trait(
            outcome=AttemptOutcome.SUPERSEDED,
            exception_class="",
            message="",
            traceback="",
            result={"ok": True},
        )

    job = factory.SubFactory(JobFactory)
    task_id = factory.LazyAttribute(lambda o: o.job.plan[0])
    attempt = 1
    outcome = AttemptOutcome.FAILED
    exception_class = EXCEPTION
    message = MESSAGE
    traceback = TRACEBACK
    worker_name = "web-1:4102"
    started_at = factory.LazyFunction(timezone.now)
    finished_at = factory.LazyAttribute(lambda o: o.started_at + seconds(0.2))


class JobEventFactory(DjangoModelFactory[JobEvent]):
    """Somebody retried a job."""

    class Meta:
        model = JobEvent

    job = factory.SubFactory(JobFactory)
    kind = "retry"
    by = "anna"
    reason = "the warehouse is back"
    status_before = JobStatus.FAILED
    status_after = JobStatus.READY
    created_at = factory.LazyFunction(timezone.now)
