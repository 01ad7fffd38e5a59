"""`make serve`: the gateway, a worker and the site, until Ctrl+C."""

import signal
import subprocess
import time
from contextlib import ExitStack
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser

from example_project.gateway.server import running_gateway
from example_project.shop.demonstration.house import LEDGER, WORKER_LOG, open_shop, running

LATENCY = 0.3
PAUSE = 0.5
WORKER = ["run_task_worker", "--no-reload", "--drain-timeout", "10"]


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
        address = f"{host}:{port}"
        try:
            with ExitStack() as stack:
                gateway = stack.enter_context(running_gateway(LEDGER, latency=LATENCY)).url
                site = ["runserver", "--verbosity", "0", address]
                serving = stack.enter_context(running(site, gateway))
                self.stdout.write(
                    f"Shop     http://{address}/\nAdmin    http://{address}/admin/   {user}\n"
                    f"Gateway  {gateway}/health\nCtrl+C stops all of it."
                )
                self._keep_a_worker(gateway, serving)
        except KeyboardInterrupt:
            self.stdout.write("bye")

    def _keep_a_worker(self, gateway: str, serving: subprocess.Popen[bytes]) -> NoReturn:
        """As a supervisor would: a worker that ends is followed by a new one."""
        while True:
            with running(WORKER, gateway, WORKER_LOG) as worker:
                self.stdout.write(f"Worker   process {worker.pid}, writes to {WORKER_LOG}")
                while worker.poll() is None:
                    if serving.poll() is not None:
                        raise CommandError(f"The site ended with {serving.returncode}.")
                    time.sleep(PAUSE)
            self.stdout.write(f"The worker ended with {worker.returncode}; a new one comes.")
            time.sleep(PAUSE)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
