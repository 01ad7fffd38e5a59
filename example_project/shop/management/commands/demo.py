"""`make demo`: real orders from the first task to the last, shown as they go, then checked."""

import subprocess
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from example_project.gateway.ledger import read_ledger
from example_project.gateway.server import running_gateway
from example_project.shop.catalogue import place_order, read_orders
from example_project.shop.conf import shop_config
from example_project.shop.demonstration.display import Display
from example_project.shop.demonstration.house import (
    LEDGER,
    ROOT,
    VAR,
    WORKER_LOG,
    open_shop,
    running,
)
from example_project.shop.demonstration.verify import verify
from example_project.shop.models import Order
from example_project.shop.progress import read_progress

LATENCY = 0.15
PAUSE = 0.2


class Command(BaseCommand):
    """Runs the whole shop once; exit code 0 says that every order ended as planned."""

    help = "Places the orders of data/orders.csv, runs a worker until all are done, and checks."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        """Options of the command line."""
        parser.add_argument("--concurrency", type=int, default=4, help="tasks at once (4)")
        parser.add_argument("--timeout", type=float, default=110, help="seconds at most (110)")

    def handle(self, *, concurrency: int, timeout: float, **options: Any) -> None:
        """Run it."""
        user = open_shop()
        self._say("migrated", user)
        with running_gateway(LEDGER, latency=LATENCY) as gateway:
            orders = {new.reference: place_order(new) for new in read_orders()}
            arguments = ["run_task_worker", "--until-empty", "--concurrency", str(concurrency)]
            with running(arguments, gateway.url, WORKER_LOG) as worker:
                self._say(
                    f"gateway {gateway.url}",
                    f"worker {worker.pid} ({concurrency} threads)",
                    f"{len(orders)} orders started",
                )
                self._watch(orders, worker, time.monotonic() + timeout)
        self._report(orders)

    def _say(self, *done: str) -> None:
        tick = self.style.SUCCESS("✓")
        self.stdout.write("   ".join(f"{tick} {text}" for text in done))

    def _watch(
        self, orders: dict[str, Order], worker: subprocess.Popen[bytes], deadline: float
    ) -> None:
        display = Display(self.stdout, self.style)
        while True:
            ended = worker.poll() is not None
            progresses = read_progress(orders.values())
            display.show(progresses)
            if ended and worker.returncode:
                raise CommandError(f"The worker ended with {worker.returncode}; see {WORKER_LOG}")
            if ended and any(progress.active for progress in progresses):
                raise CommandError(f"The worker ended before its orders; see {WORKER_LOG}")
            if ended:
                return
            if time.monotonic() > deadline:
                raise CommandError(f"Not done in time; see {WORKER_LOG}")
            time.sleep(PAUSE)

    def _report(self, orders: dict[str, Order]) -> None:
        mail_dir = shop_config().mail_dir
        checks = verify(orders, read_ledger(LEDGER), mail_dir)
        for check in checks:
            mark = self.style.ERROR("✗") if check.problems else self.style.SUCCESS("✓")
            self.stdout.write(f"{mark} {check.text}")
            for problem in check.problems:
                self.stdout.write(self.style.ERROR(f"    {problem}"))
        files = (Path(settings.MEDIA_ROOT) / "invoices", mail_dir, LEDGER, WORKER_LOG)
        invoices, mails, ledger, log = (_short(path) for path in files)
        self.stdout.write(
            f"Invoices: {invoices}   Mails: {mails}   Ledger: {ledger}   Worker: {log}"
        )
        if any(check.problems for check in checks):
            raise CommandError("The demo did not come out as planned.")
        self.stdout.write("Look around: make serve")


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT) if VAR.is_relative_to(ROOT) else path)
