"""`make demo`: real orders from the first task to the last, shown as they go, then checked."""

import subprocess
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_tasks_seq.conf import get_config
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
from example_project.shop.demonstration.verify import Check, verify
from example_project.shop.models import Order
from example_project.shop.progress import read_progress

LATENCY = 0.15
PAUSE = 0.2
KILL_AFTER = 5


class Command(BaseCommand):
    """Runs the whole shop once; exit code 0 says that every order ended as planned."""

    help = "Places the orders of data/orders.csv, runs a worker until all are done, and checks."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        """Options of the command line."""
        parser.add_argument("--concurrency", type=int, default=4, help="tasks at once (4)")
        parser.add_argument("--timeout", type=float, default=110, help="seconds at most (110)")
        parser.add_argument(
            "--crash", action="store_true", help="kill the worker half-way; another takes over"
        )

    def handle(self, *, concurrency: int, timeout: float, crash: bool, **options: Any) -> None:
        """Run it."""
        deadline = time.monotonic() + timeout
        self.display = Display(self.stdout, self.style)
        self._say("migrated", open_shop())
        with running_gateway(LEDGER, latency=LATENCY) as gateway:
            orders = {new.reference: place_order(new) for new in read_orders()}
            self._say(f"gateway {gateway.url}", f"{len(orders)} orders started")
            worker = ["run_task_worker", "--no-reload", "--concurrency", str(concurrency)]
            # What a killed worker had is not due before its lease is over, and so no reason to stay.
            ending = [] if crash else ["--until-empty"]
            for kill_after in [KILL_AFTER, None] if crash else [None]:
                with running([*worker, *ending], gateway.url, WORKER_LOG) as process:
                    self._say(f"worker {process.pid} ({concurrency} threads)")
                    self._watch(orders, process, deadline, kill_after, is_ending=not crash)
        self._report(verify(orders, read_ledger(LEDGER), shop_config().mail_dir, crashed=crash))

    def _say(self, *done: str) -> None:
        tick = self.style.SUCCESS("✓")
        self.stdout.write("   ".join(f"{tick} {text}" for text in done))

    def _watch(
        self,
        orders: dict[str, Order],
        worker: subprocess.Popen[bytes],
        deadline: float,
        kill_after: int | None,
        *,
        is_ending: bool,
    ) -> None:
        while True:
            code = worker.poll()
            progresses = read_progress(orders.values())
            self.display.show(progresses)
            active = sum(progress.active for progress in progresses)
            if code:
                raise CommandError(f"The worker ended with {code}; see {WORKER_LOG}")
            # A worker of `make serve` may still have some of them when ours has ended.
            if not active and (code == 0 or not is_ending):
                return
            if kill_after is not None and len(orders) - active >= kill_after:
                self._kill(worker, active)
                return
            if time.monotonic() > deadline:
                raise CommandError(f"Not done in time; see {WORKER_LOG}")
            time.sleep(PAUSE)

    def _kill(self, worker: subprocess.Popen[bytes], active: int) -> None:
        worker.kill()
        self.display.leave()
        lease = get_config().lease_seconds
        said = f"worker {worker.pid} was killed with {active} orders to go"
        self.stdout.write(self.style.WARNING(f"✗ {said}; what it had goes on in {lease} s"))

    def _report(self, checks: list[Check]) -> None:
        for check in checks:
            mark = self.style.ERROR("✗") if check.problems else self.style.SUCCESS("✓")
            self.stdout.write(f"{mark} {check.text}")
            for problem in check.problems:
                self.stdout.write(self.style.ERROR(f"    {problem}"))
        media, mail_dir = Path(settings.MEDIA_ROOT), shop_config().mail_dir
        files = (media / "invoices", mail_dir, LEDGER, WORKER_LOG)
        invoices, mails, ledger, log = (_short(path) for path in files)
        self.stdout.write(
            f"Invoices: {invoices}   Mails: {mails}   Ledger: {ledger}   Worker: {log}"
        )
        if any(check.problems for check in checks):
            raise CommandError("The demo did not come out as planned.")
        self.stdout.write("Look around: make serve")


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT) if VAR.is_relative_to(ROOT) else path)
