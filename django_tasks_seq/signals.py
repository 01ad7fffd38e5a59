"""Django signals of jobs and tasks: sent after the commit, by `send_robust`.

A receiver that raises is logged and changes nothing. The sender is the sequence
(`TaskSequence`, or None when this process does not know it); receivers take `**kwargs`,
since later releases may add some.

======================  ============================================================
`task_ready`            `job_id, task_id, payload`: by `SignalStartTaskHandler` alone
`job_started`           `job_id, sequence`: the first task of the job begins
`task_started`          `job_id, sequence, task_id, attempt`
`task_finished`         `job_id, sequence, task_id, attempt, status, error`
`task_retried`          `job_id, sequence, task_id, attempt, error, delay` (seconds)
`job_finished`          `job_id, sequence, status`: the job is settled
======================  ============================================================

`sequence` and `task_id` are names; `error` is a `TaskFailed` or None.
"""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

__all__ = [
    "job_finished",
    "job_started",
    "task_finished",
    "task_ready",
    "task_retried",
    "task_started",
]

task_ready: Final = Signal()
job_started: Final = Signal()
task_started: Final = Signal()
task_finished: Final = Signal()
task_retried: Final = Signal()
job_finished: Final = Signal()
