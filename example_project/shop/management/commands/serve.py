"""`make serve`: the gateway, a worker and the site, until Ctrl+C."""

import signal
import subprocess
import time
from contextlib import ExitStack
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser

from example_project.gateway.server import running_gateway
from example_project.shop.demonstration.house import (
    LEDGER,
    WORKER_LOG,
    open_shop,
    running,
)

LATENCY = 0.3
PAUSE = 0.2


class Command(BaseCommand):
    """Runs the shop for a person with a browser."""

    help = "Serves the shop and its admin, with a payment gateway and a worker behind them."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        """Options of the command line."""
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *, host: str, port: int, **options: Any) -> None:
        """Run it."""
        signal.signal(signal.SIGTERM, _interrupt)
        user = open_shop()
        with ExitStack() as stack:
            gateway = stack.enter_context(running_gateway(LEDGER, latency=LATENCY))
            commands = {
                "worker": (["run_task_worker"], WORKER_LOG),
                "site": (["runserver", "--verbosity", "0", f"{host}:{port}"], None),
            }
            processes = {
                name: stack.enter_context(running(arguments, gateway.url, log))
                for name, (arguments, log) in commands.items()
            }
            self._say_addresses(f"http://{host}:{port}/", user, gateway.url)
            self._wait(processes)
        self.stdout.write("bye")

    def _say_addresses(self, site: str, user: str, gateway: str) -> None:
        self.stdout.write(
            f"Shop    {site}\nAdmin   {site}admin/   {user}\nGateway {gateway}/health\n"
            f"Worker  {WORKER_LOG}\nCtrl+C stops all of them."
        )

    def _wait(self, processes: dict[str, subprocess.Popen[bytes]]) -> None:
        try:
            while True:
                for name, process in processes.items():
                    if process.poll() is not None:
                        raise CommandError(f"The {name} ended with {process.returncode}.")
                time.sleep(PAUSE)
        except KeyboardInterrupt:
            self.stdout.write("Stopping: the worker finishes what it has begun…")


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
