"""What has happened, told to receivers of signals and to the log: after the commit, never before.

A receiver that raises is logged by Django and changes nothing. Each transition has one log line.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from . import signals
from .attempt import Attempt
from .choices import JobStatus
from .conf import get_config
from .exceptions import TaskFailed
from .handler_call import HandlerCall
from .handlers import handler_due_for
from .ids import short_id
from .loggers import StdlibTaskLogger, logger_for
from .outcomes import Committed, Decided, Raised, Returned
from .registry import find_sequence
from .sequences import TaskSequence

DEFAULT_LOGGER = f"{StdlibTaskLogger.__module__}.{StdlibTaskLogger.__qualname__}"


@dataclass(slots=True)
class News:
    """One attempt that ended, and what became of its job ("" when it goes on)."""

    job_id: UUID
    sequence: TaskSequence | None
    sequence_name: str
    task_id: str
    attempt: int
    worker: str
    label: str
    place: str
    seconds: float
    job_seconds: float
    failure: Any = None
    job_status: str = ""
    settled: bool = False
    is_handler: bool = False


def news_of(call: Attempt) -> News:
    """What there is to tell of an attempt whose outcome is committed."""
    claim, outcome = call.claim, call.outcome
    news = News(
        job_id=claim.job_id,
        sequence=call.sequence,
        sequence_name=claim.sequence,
        task_id=call.task_id,
        attempt=call.context.attempt,
        worker=call.worker,
        label=claim.subject_label or f"{claim.sequence} {short_id(claim.job_id)}",
        place=f"{claim.position + 1}/{len(claim.plan)}",
        seconds=(call.ended or 0.0) - (call.started or 0.0),
        job_seconds=claim.took,
        failure=outcome.failure if isinstance(outcome, Raised) else None,
        is_handler=isinstance(call, HandlerCall),
    )
    if isinstance(call, HandlerCall):
        is_error = call.kind == "error"
        news.job_status = (JobStatus.FAILED if is_error else JobStatus.SUCCESSFUL).value
        if isinstance(outcome, Decided):
            news.job_status, news.settled = outcome.settled, bool(outcome.settled)
        else:
            given_up = news.failure is not None and news.failure.delay is None
            news.settled = isinstance(outcome, Returned) or given_up
    elif isinstance(outcome, Returned | Committed) and claim.is_last:
        news.job_status = JobStatus.SUCCESSFUL.value
    elif news.failure is not None and news.failure.delay is None:
        news.job_status = JobStatus.FAILED.value
    if news.job_status and not news.is_handler:
        failed = news.job_status == JobStatus.FAILED
        news.settled = not handler_due_for(call.sequence, "error" if failed else "success")
    return news


def is_anyone_listening() -> bool:
    """Whether plain progress has to be told at all: mostly it has not, and costs nothing then."""
    if signals.task_finished.has_listeners() or signals.job_finished.has_listeners():
        return True
    is_default = get_config().logger in (DEFAULT_LOGGER, StdlibTaskLogger)
    return not is_default or StdlibTaskLogger.logger.isEnabledFor(logging.INFO)


def tell(news: News) -> None:
    """Log it, and send the signals that belong to it."""
    _log(news)
    if news.is_handler:
        if news.settled:
            _send_job_finished(news)
        return
    error = _task_failed(news)
    if news.failure is not None and news.failure.delay is not None:
        _send(signals.task_retried, news, task=True, error=error, delay=news.failure.delay)
        return
    status = "SUCCESSFUL" if error is None else "FAILED"
    _send(signals.task_finished, news, task=True, status=status, error=error)
    if news.settled:
        _send_job_finished(news)


def tell_settled(job_id: UUID, sequence: str, status: str) -> None:
    """Send `job_finished` of a job that no task or handler of it has ended; nothing for ""."""
    if status and signals.job_finished.has_listeners():
        signals.job_finished.send_robust(
            sender=find_sequence(sequence), job_id=job_id, sequence=sequence, status=status
        )


def tell_begun(call: Attempt) -> None:
    """Send the signals that belong to an attempt that begins."""
    claim = call.claim
    if isinstance(call, HandlerCall):
        return
    facts = {"job_id": claim.job_id, "sequence": claim.sequence}
    if claim.position == 0 and claim.attempt == 1:
        signals.job_started.send_robust(sender=call.sequence, **facts)
    signals.task_started.send_robust(
        sender=call.sequence, task_id=call.task_id, attempt=claim.attempt, **facts
    )


def _send_job_finished(news: News) -> None:
    _send(signals.job_finished, news, status=news.job_status)


def _send(signal: Any, news: News, *, task: bool = False, **facts: Any) -> None:
    if not signal.has_listeners():
        return
    if task:
        facts |= {"task_id": news.task_id, "attempt": news.attempt}
    signal.send_robust(
        sender=news.sequence, job_id=news.job_id, sequence=news.sequence_name, **facts
    )


def _task_failed(news: News) -> TaskFailed | None:
    if news.failure is None:
        return None
    text = news.failure.text
    return TaskFailed(
        task_id=news.task_id,
        attempt=news.attempt,
        exception_class=text.exception_class,
        exception_bases=text.bases,
        message=text.message,
        traceback=text.traceback,
    )


def _log(news: News) -> None:
    logger = logger_for(
        job_id=str(news.job_id),
        sequence=news.sequence_name,
        task_id=news.task_id,
        attempt=news.attempt,
        worker=news.worker,
    )
    facts = {"label": news.label, "place": news.place, "seconds": round(news.seconds, 6)}
    failure = news.failure
    if failure is not None and failure.delay is not None:
        logger.warning("task retried", error=failure.text.summary, delay=failure.delay, **facts)
    elif failure is not None:
        what = "handler gave up" if news.is_handler else "task failed"
        logger.error(what, error=failure.text.summary, **facts)
    elif news.job_status and not news.is_handler:
        facts["seconds"] = round(news.job_seconds, 6)
        logger.info("job finished", status=news.job_status, **facts)
    else:
        logger.debug("handler done" if news.is_handler else "task done", **facts)
