"""A supervisor and its workers: several processes, and one that is started anew when code changes."""

import os
import signal
import time
from pathlib import Path

import pytest

from django_tasks_seq import executor
from django_tasks_seq.models import Worker
from tests.helpers import wait_until
from tests.process.conftest import Start
from tests.process.ledger import Ledger

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


def living() -> set[int]:
    """Process ids of the workers that have not signed off and still exist."""
    pids = set(Worker.objects.filter(stopped_at=None).values_list("pid", flat=True))
    return {pid for pid in pids if Path(f"/proc/{pid}").exists() and not _is_zombie(pid)}


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_two_processes_share_the_work_and_end_together(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    """Both run tasks; one SIGTERM to their parent ends all after the tasks that run."""
    supervisor = start("--processes=2", "--concurrency=1")
    wait_until(lambda: len(living()) == 2, what="two workers")
    executor.start_many("until_file", [{"until": str(tmp_path / "go")}] * 2)
    wait_until(lambda: len({line.pid for line in ledger.lines("call")}) == 2, what="tasks in both")

    supervisor.terminate()
    wait_until(lambda: supervisor.output().count("Stopping: finishing 1 task") == 2)
    (tmp_path / "go").touch()

    assert supervisor.wait() == 0, supervisor.output()
    assert not living()
    assert len(ledger.lines("end")) == 2


def test_a_second_signal_reaches_all_processes(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    """Pressed twice, the supervisor's children do not wait for their tasks."""
    supervisor = start("--processes=2", "--concurrency=1", "--drain-timeout=100")
    wait_until(lambda: len(living()) == 2, what="two workers")
    executor.start_many("until_file", [{"until": str(tmp_path / "never")}] * 2)
    wait_until(lambda: len({line.pid for line in ledger.lines("call")}) == 2, what="tasks in both")

    supervisor.send_signal(signal.SIGINT)
    wait_until(lambda: supervisor.output().count("press again to stop now") == 2)
    supervisor.send_signal(signal.SIGINT)

    assert supervisor.wait() == 0, supervisor.output()
    assert not living()


def test_two_signals_at_once_are_two_for_all_processes(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    """A supervisor that sees both in one look passes both on."""
    supervisor = start("--processes=2", "--concurrency=1", "--drain-timeout=100")
    wait_until(lambda: len(living()) == 2, what="two workers")
    executor.start_many("until_file", [{"until": str(tmp_path / "never")}] * 2)
    wait_until(lambda: len({line.pid for line in ledger.lines("call")}) == 2, what="tasks in both")

    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
        supervisor.send_signal(number)

    assert supervisor.wait() == 0, supervisor.output()
    assert not living()


def children_of(pid: int) -> set[int]:
    """Process ids of the processes that it has started."""
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_a_stop_while_workers_are_being_started_is_no_failure(start: Start) -> None:
    """A child that is told to stop before it can listen has done nothing: exit code 0."""
    supervisor = start("--processes=2")
    wait_until(lambda: len(children_of(supervisor.pid)) == 2, what="two children")

    supervisor.terminate()

    assert supervisor.wait() == 0, supervisor.output()
    assert not living()


def test_a_killed_process_is_replaced(start: Start) -> None:
    """One child dies; another takes its place while the supervisor and the other child go on."""
    supervisor = start("--processes=2")
    wait_until(lambda: len(living()) == 2, what="two workers")
    victim, other = living()

    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(living() - {victim}) == 2, what="a new worker")

    assert other in living()
    assert supervisor.running
    done = executor.start_sequence("short", {})
    wait_until(lambda: done.refresh().status == "SUCCESSFUL", what="a job")


def test_processes_of_a_burst_end_by_themselves(start: Start) -> None:
    """With --burst the supervisor ends when all its children have, and starts none anew."""
    jobs = executor.start_many("chain", [{"n": n} for n in range(30)])
    supervisor = start("--processes=2", "--burst")

    assert supervisor.wait() == 0, supervisor.output()
    assert {job.refresh().status for job in jobs} == {"SUCCESSFUL"}
    assert Worker.objects.count() == 2


def test_children_do_not_outlive_their_supervisor(start: Start) -> None:
    """A supervisor that is killed cannot pass on a stop: its children see that it is gone, and drain."""
    supervisor = start("--processes=2")
    wait_until(lambda: len(living()) == 2, what="two workers")

    supervisor.send_signal(signal.SIGKILL)

    wait_until(lambda: Worker.objects.filter(stopped_at=None).count() == 0, what="two goodbyes")


HANDLER = """
from django_tasks_seq import BaseErrorHandler

class Handler(BaseErrorHandler):
    def handle_error(self, error, context):
        return None
"""


def test_a_change_of_code_starts_the_worker_anew(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    """In DEBUG a saved file drains the worker and starts another; a stop still ends everything."""
    module = tmp_path / "reloaded.py"
    module.write_text(HANDLER)
    env = {"PYTHONPATH": str(tmp_path), "TASKS_SEQ_TEST_DEBUG": "1"}
    supervisor = start(env=env, ERROR_HANDLER="reloaded.Handler")
    wait_until(lambda: len(living()) == 1, what="a worker")
    (first,) = living()
    job = executor.start_sequence("until_stop", {})
    wait_until(lambda: ledger.lines("call"), what="a running task")

    later = time.time() + 5
    os.utime(module, (later, later))
    supervisor.wait_for_output("reloaded.py has changed")
    wait_until(lambda: len(living() - {first}) == 1, what="another worker")
    wait_until(
        lambda: len({line.pid for line in ledger.lines("call", job)}) == 2, what="the job again"
    )
    supervisor.terminate()

    assert supervisor.wait() == 0, supervisor.output()
    assert not living()
    assert {line.attempt for line in ledger.lines("call", job)} == {1}
