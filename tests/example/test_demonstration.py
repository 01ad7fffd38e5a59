"""What `make demo` shows, and that its checks would notice if something went wrong."""

from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management.color import no_style

from django_tasks_seq.models import Job, TaskAttempt, TaskStatus
from example_project.gateway.ledger import Entry
from example_project.shop.catalogue import NewOrder, Wanted, job_of, place_order, stock_products
from example_project.shop.demonstration.display import Display, line
from example_project.shop.demonstration.verify import verify
from example_project.shop.invoices import write_invoice
from example_project.shop.mails import alert, confirmation, send_once
from example_project.shop.models import Invoice, Order, Product, StockMovement
from example_project.shop.pictures import make_pictures
from example_project.shop.progress import read_progress
from example_project.shop.stock import reserve

pytestmark = pytest.mark.django_db

GOOD, DECLINED = "1041", "1044"


class Run:
    """One order that was fulfilled and one whose card was declined, as the tasks leave them."""

    def __init__(self, mails: Path) -> None:
        stock_products()
        self.mails = mails
        self.orders = {GOOD: self._order("tok_visa"), DECLINED: self._order("tok_declined")}
        self.ledger: list[Entry] = [self._entry("charge", GOOD)]
        self._fulfil(self.orders[GOOD])
        self._decline(self.orders[DECLINED])

    def problems(self) -> dict[str, list[str]]:
        """What the checks find, by the first word of each."""
        checks = verify(self.orders, self.ledger, self.mails)
        return {check.text.split()[0].rstrip(":"): check.problems for check in checks}

    def _order(self, card: str) -> Order:
        lines = (Wanted("CUP-BLUE", 2), Wanted("BOWL-SAND", 1))
        order = place_order(
            NewOrder(customer="Anna", email="anna@example.com", card=card, lines=lines)
        )
        order.total = Decimal(33)
        order.save()
        return order

    def _entry(self, kind: str, reference: str) -> Entry:
        order = self.orders[reference]
        key = f"{self._job(order).pk}:{kind}"
        return {"kind": kind, "key": key, "order": order.number, "amount": "33.00"}

    def again(self, kind: str) -> None:
        """The gateway does this once more."""
        self.ledger.append(self._entry(kind, GOOD))

    def _fulfil(self, order: Order) -> None:
        reserve(order)
        write_invoice(order)
        list(make_pictures(order))
        send_once(confirmation(order), key=f"{self._job(order).pk}:email")
        Order.objects.filter(pk=order.pk).update(status=Order.Status.FULFILLED)

    def _decline(self, order: Order) -> None:
        job = self._job(order)
        TaskAttempt.objects.create(
            job=job, task_id="charge", attempt=1, outcome="FAILED", exception_class="x.CardDeclined"
        )
        send_once(alert(order, "declined"), key=f"{job.pk}:alert:charge")
        Order.objects.filter(pk=order.pk).update(status=Order.Status.NEEDS_ATTENTION)

    def _job(self, order: Order) -> Job:
        job = job_of(order)
        assert job is not None
        return job


@pytest.fixture
def run(mails: Path) -> Run:
    return Run(mails)


def copy_a_mail(run: Run) -> None:
    mail = next(path for path in run.mails.iterdir() if b"Your order" in path.read_bytes())
    (run.mails / "copy.log").write_bytes(mail.read_bytes())


def empty_an_invoice(run: Run) -> None:
    Path(Invoice.objects.get().file.path).write_bytes(b"")


def delete_an_invoice(run: Run) -> None:
    Path(Invoice.objects.get().file.path).unlink()


def set_status(reference: str, status: str) -> Callable[[Run], None]:
    def damage(run: Run) -> None:
        Order.objects.filter(pk=run.orders[reference].pk).update(status=status)

    return damage


def test_orders_of_another_database_are_not_counted(run: Run) -> None:
    """An order of the same number that another database had does not disturb."""
    run.ledger.append({**run.ledger[0], "key": "01890a5d-ac96-774b-bcce-b302099a8057:charge"})

    assert run.problems()["money"] == []


def test_a_good_run_has_no_problems(run: Run) -> None:
    """When all came as planned, every check says so."""
    assert run.problems() == {"2": [], "money": [], "stock": [], "papers": [], "mails": []}


@pytest.mark.parametrize(
    ("damage", "check", "problem"),
    [
        (lambda run: run.again("charge"), "money", "2 charges, 6600 of 3300 cents"),
        (lambda run: run.again("refund"), "money", "1 charges, 0 of 3300 cents"),
        (lambda run: run.ledger.clear(), "money", "0 charges, 0 of 3300 cents"),
        (lambda run: Product.objects.update(stock=3), "stock", "3 on the shelf, 38 booked"),
        (lambda run: StockMovement.objects.filter(quantity=-2).delete(), "stock", "1 pieces moved"),
        (empty_an_invoice, "papers", "has no invoice"),
        (delete_an_invoice, "papers", "has no invoice"),
        (lambda run: run.orders[GOOD].pictures.first().delete(), "papers", "has 5 pictures"),
        (copy_a_mail, "mails", "2 mails"),
        (lambda run: [path.unlink() for path in run.mails.iterdir()], "mails", "0 mails"),
        (set_status(GOOD, "PLACED"), "2", "is PLACED, not FULFILLED"),
        (set_status(DECLINED, "FULFILLED"), "2", "is FULFILLED, not NEEDS_ATTENTION"),
        (
            lambda run: TaskAttempt.objects.update(exception_class="x.Other"),
            "2",
            "should have failed in charge with CardDeclined",
        ),
    ],
)
def test_checks_notice_what_is_wrong(
    run: Run, damage: Callable[[Run], Any], check: str, problem: str
) -> None:
    """Each kind of damage is found by the check that is there for it."""
    damage(run)

    assert any(problem in found for found in run.problems()[check]), run.problems()


class Screen(StringIO):
    def isatty(self) -> bool:
        return True


class Terminal:
    """A command's output, on a terminal or a pipe."""

    def __init__(self, stream: StringIO) -> None:
        self.stream = stream

    def write(self, msg: str = "", *, ending: str | None = None) -> None:
        self.stream.write(msg + ("\n" if ending is None else ending))

    def isatty(self) -> bool:
        return self.stream.isatty()


@pytest.fixture
def placed() -> Order:
    stock_products()
    lines = (Wanted("CUP-BLUE", 2),)
    return place_order(
        NewOrder(customer="Anna", email="anna@example.com", card="tok_visa", lines=lines)
    )


def set_task(order: Order, job_status: str, task_id: str, status: str, **fields: Any) -> None:
    job = job_of(order)
    assert job is not None
    position = job.plan.index(task_id)
    values = {"position": position, "status": status, **fields}
    TaskStatus.objects.update_or_create(job=job, task_id=task_id, defaults=values)
    ended = {"finished_at": job.created_at} if job_status in {"FAILED", "SUCCESSFUL"} else {}
    Job.objects.filter(pk=job.pk).update(status=job_status, **ended)


def test_line_shows_tasks_side_by_side(placed: Order) -> None:
    """A line tells what is done, how far the running task is, and what is to come."""
    set_task(placed, "RUNNING", "validate", "SUCCESSFUL")
    set_task(placed, "RUNNING", "charge", "RUNNING", progress={"done": 4, "total": 6})

    [progress] = read_progress([placed])
    assert " ".join(line(progress).split()) == (
        f"Order #{placed.number} validate ✓ charge ▶ 4/6 reserve · invoice · photos · email · running"
    )


def test_line_of_a_failure_ends_with_its_error(placed: Order) -> None:
    """What comes after a failed task is left out for the error."""
    set_task(placed, "FAILED", "validate", "FAILED", error="UnknownProduct: no teapot")

    [progress] = read_progress([placed])
    assert line(progress).endswith("validate ✗ UnknownProduct: no teapot  failed")


def test_pipe_gets_a_line_for_each_news(placed: Order) -> None:
    """On a pipe a retry and the end are said once each, and nothing is redrawn."""
    stream = StringIO()
    display = Display(Terminal(stream), no_style())

    def show() -> None:
        display.show(read_progress([placed]))

    show()
    assert stream.getvalue() == ""
    set_task(placed, "WAITING", "validate", "WAITING", attempts=1)
    show()
    show()
    set_task(placed, "FAILED", "validate", "FAILED", attempts=2, error="Gone: away")
    show()
    show()

    said = stream.getvalue().splitlines()
    assert ["retry in" in said[0], said[1].endswith("failed"), len(said)] == [True, True, 2]
    assert "\x1b" not in stream.getvalue()


def test_terminal_is_redrawn_in_place(placed: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the second drawing goes over the first, and no line is wider than the screen."""
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen()
    display = Display(Terminal(screen), no_style())

    display.show(read_progress([placed]))
    first = screen.getvalue()
    display.show(read_progress([placed]))

    assert first.startswith("\x1b[2K  Order #")
    assert len(first.removeprefix("\x1b[2K").rstrip("\n")) == 39
    assert screen.getvalue() == f"{first}\x1b[1F{first}"
