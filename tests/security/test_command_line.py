"""S14: what a command is told, and the files it writes, lead nowhere else."""

import os
import stat
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_tasks_seq import executor
from django_tasks_seq.health import HealthFile
from django_tasks_seq.management import supervisor
from django_tasks_seq.models import Job
from tests.database.conftest import Declare
from tests.database.working import same

HOSTILE = [
    "*;drop table x",
    "' OR 1=1 --",
    '"; SELECT pg_sleep(9); --',
    "$(touch /tmp/x)",
    "`id`",
    "a\nb",
    "--settings=evil",
    "%s%s%s",
    "{0.__class__}",
    "q" * 5000,
]


# --- the health file


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_text("keep me")
    return path


@pytest.mark.parametrize("name", ["worker.health", f".worker.health.{os.getpid()}"])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_no_link_is_followed(
    tmp_path: Path, precious: Path, name: str, link: Callable[..., None]
) -> None:
    """A link in the place of the file, or of the one it is made from, is replaced; its target stays."""
    link(precious, tmp_path / name)
    health = HealthFile(str(tmp_path / "worker.health"))
    health.write()
    health.beat()

    assert precious.read_text() == "keep me"
    assert not (tmp_path / "worker.health").is_symlink()
    assert (tmp_path / "worker.health").read_text() == f"{os.getpid()}\n"
    health.remove()
    assert precious.read_text() == "keep me"


def test_a_link_that_comes_between_is_not_followed(
    tmp_path: Path, precious: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who makes a link at the very moment the file is opened gets an error, not a write."""
    health = HealthFile(str(tmp_path / "worker.health"))
    real = os.open

    def race(path: Any, flags: int, mode: int = 0o777) -> int:
        Path(path).symlink_to(precious)
        return real(path, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", race)
        with pytest.raises(FileExistsError):
            health.write()

    assert precious.read_text() == "keep me"


def test_a_link_that_dangles_makes_no_file(tmp_path: Path) -> None:
    """A link to what is not there yet does not make a worker create it."""
    target = tmp_path / "not-yet"
    (tmp_path / "worker.health").symlink_to(target)
    HealthFile(str(tmp_path / "worker.health")).write()

    assert not target.exists()


def test_the_file_can_be_written_by_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask, others may read it and no more."""
    before = os.umask(0)
    try:
        HealthFile(str(tmp_path / "worker.health")).write()
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "worker.health").stat().st_mode) == 0o644


def test_a_folder_in_the_way_is_an_error_and_stays(tmp_path: Path) -> None:
    """It is not removed; a worker that cannot beat says so and works on."""
    folder = tmp_path / f".worker.health.{os.getpid()}"
    folder.mkdir()
    health = HealthFile(str(tmp_path / "worker.health"))

    with pytest.raises(OSError):
        health.write()
    health.beat()
    assert folder.is_dir()


# --- names and options


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_queues_are_names_and_nothing_else(declare: Declare) -> None:
    """Whatever `--queues` holds, only jobs on queues of exactly these names are run."""
    declare(same)
    mine = executor.start_sequence("probe", queue="; drop")
    theirs = executor.start_sequence("probe")
    for queue in HOSTILE:
        call_command("run_task_worker", queues=queue, burst=True, verbosity=0)
    assert mine.refresh().status == theirs.refresh().status == "READY"

    call_command("run_task_worker", queues="x' OR '1'='1, ; drop", burst=True, verbosity=0)
    assert mine.refresh().status == "SUCCESSFUL"
    assert theirs.refresh().status == "READY"


@pytest.mark.parametrize("queue", ["a\0b", "\udcff", "fine,\ud800"])
@pytest.mark.django_db(databases="__all__")
def test_a_queue_that_cannot_be_stored_is_refused(queue: str) -> None:
    """Bytes on the command line that are no UTF-8 end it with a sentence, not in the middle of work."""
    with pytest.raises(CommandError, match="queue's name"):
        call_command("run_task_worker", queues=queue, burst=True, verbosity=0)


@pytest.mark.django_db(databases="__all__")
@pytest.mark.parametrize("text", HOSTILE[:-1])
def test_pruning_takes_names_and_no_sql(declare: Declare, text: str) -> None:
    """`tasks_seq prune` deletes nothing for a sequence or a status that it does not know."""
    declare(same)
    executor.cancel(executor.start_sequence("probe"))
    for option in ("--sequences", "--sequence", "--status", "--older-than", "--database"):
        with suppress(CommandError, SystemExit):
            call_command("tasks_seq", "prune", f"{option}={text}", "--older-than=1s", verbosity=0)

    assert Job.objects.count() == 1


def test_children_are_started_without_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--processes` hands each option on as one argument of the new process."""
    seen: list[Any] = []

    class Popen:
        def __init__(self, arguments: Any, **options: Any) -> None:
            seen.append((arguments, options))

    monkeypatch.setattr(subprocess, "Popen", Popen)
    child = supervisor.Child(supervisor.command_line([f"--queues={text}" for text in HOSTILE]))
    child.start_if_due()

    ((arguments, options),) = seen
    assert isinstance(arguments, list)
    assert arguments[-len(HOSTILE) :] == [f"--queues={text}" for text in HOSTILE]
    assert "shell" not in options


def test_a_hostile_supervisors_number_is_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable by which a supervisor is known is a number; all else ends the worker at its start."""
    from django_tasks_seq.management.os_signals import SUPERVISOR, Stops

    monkeypatch.setenv(SUPERVISOR, "__import__('os').getpid()")
    with pytest.raises(ValueError):
        Stops(0)
