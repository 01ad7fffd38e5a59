"""What the shop needs before it opens, and the processes that it consists of."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command

from example_project.shop.catalogue import stock_products
from example_project.shop.conf import shop_config

ROOT = Path(__file__).resolve().parents[3]
VAR = shop_config().var_dir
LEDGER = VAR / "gateway.jsonl"
WORKER_LOG = VAR / "worker.log"
USER = PASSWORD = "admin"  # noqa: S105 (said on the screen, and with DEBUG only)
PATIENCE = 15


def open_shop() -> str:
    """Migrate, make a user, fill the shelves; return who can log in, in words."""
    call_command("migrate", verbosity=0)
    stock_products()
    if not settings.DEBUG:
        return "no user made: DEBUG is off"
    make_user()
    return f"user {USER} / {PASSWORD} (this machine only)"


def make_user() -> None:
    """The superuser admin/admin, on a developer's machine alone."""
    users = get_user_model()._default_manager
    if not users.filter(username=USER).exists():
        users.create_superuser(username=USER, email="admin@acme.example", password=PASSWORD)


def start(arguments: Sequence[str], gateway_url: str, log: Path | None) -> subprocess.Popen[bytes]:
    """Start a management command as a process; what it says goes to the log, or is said by us."""
    quiet = {"PYTHONUNBUFFERED": "1", "DJANGO_RUNSERVER_HIDE_WARNING": "true"}
    environment = {**os.environ, **quiet, "GATEWAY_URL": gateway_url}
    command = [sys.executable, "-m", "django", *arguments]
    with ExitStack() as stack:
        out = stack.enter_context(log.open("ab")) if log else None
        return subprocess.Popen(  # noqa: S603 (our own commands)
            command,
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT if out else None,
        )


@contextmanager
def running(
    arguments: Sequence[str], gateway_url: str, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A management command that runs as long as the block, or shorter."""
    process = start(arguments, gateway_url, log)
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it in order, and if it will not, by force."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
