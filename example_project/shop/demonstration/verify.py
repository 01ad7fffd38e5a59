"""Did it all come as it should? Asked of the rows, the files and the gateway's own ledger."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from django.db.models import Sum

from example_project.gateway.ledger import Entry
from example_project.shop.catalogue import job_of
from example_project.shop.mails import message_id
from example_project.shop.models import Invoice, Order, Product, StockMovement
from example_project.shop.pictures import WIDTHS

# Which order of the file fails, in which task, with which exception.
PLANNED = {
    "1044": ("charge", "CardDeclined"),
    "1047": ("validate", "UnknownProduct"),
    "1049": ("reserve", "OutOfStock"),
}


class Check(NamedTuple):
    """One thing that should be so, whether it is, and what is wrong."""

    text: str
    problems: list[str]


def verify(
    orders: Mapping[str, Order], ledger: Iterable[Entry], mails: Path, *, crashed: bool = False
) -> list[Check]:
    """Check the orders of one run, given by their number in the file.

    When a worker was killed on the way, a mail may have been sent again, under the same Message-ID.
    """
    for order in orders.values():
        order.refresh_from_db()
    # By job, not by number: another database may have had an order of this number.
    jobs = {str(job.pk) for order in orders.values() if (job := job_of(order))}
    entries = [entry for entry in ledger if entry["key"].partition(":")[0] in jobs]
    failed = len(set(orders) & set(PLANNED))
    return [
        Check(
            f"{len(orders)} orders: {len(orders) - failed} fulfilled, {failed} failed as planned",
            list(check_outcomes(orders)),
        ),
        Check(
            f"money: {describe(entries)}; nothing charged twice", list(check_money(orders, entries))
        ),
        Check("stock: every piece accounted for", list(check_stock(orders))),
        Check("papers: an invoice and pictures for each", list(check_papers(orders))),
        Check(
            f"mails: one for each order{'' if crashed else ', sent once'}",
            list(check_mails(orders, mails, at_most=2 if crashed else 1)),
        ),
    ]


def check_outcomes(orders: Mapping[str, Order]) -> Iterator[str]:
    """Each order is fulfilled, or failed where it was planned to."""
    for reference, order in orders.items():
        planned = PLANNED.get(reference)
        expected = Order.Status.NEEDS_ATTENTION if planned else Order.Status.FULFILLED
        if order.status != expected:
            yield f"{order} is {order.status}, not {expected}"
        if planned:
            yield from _check_failure(order, *planned)


def _check_failure(order: Order, task_id: str, exception: str) -> Iterator[str]:
    job = job_of(order)
    last = job.attempts.order_by("-id").first() if job else None
    if last is None or last.task_id != task_id or not last.exception_class.endswith(exception):
        yield f"{order} should have failed in {task_id} with {exception}, not {last}"


def check_money(orders: Mapping[str, Order], entries: Iterable[Entry]) -> Iterator[str]:
    """The ledger holds one charge at most for each order, and nothing of those that failed."""
    charges: Counter[str] = Counter()
    balance: Counter[str] = Counter()
    for entry in entries:
        sign = {"charge": 1, "refund": -1}.get(entry["kind"], 0)
        charges[entry["order"]] += sign > 0
        balance[entry["order"]] += sign * int(Decimal(entry["amount"]) * 100)
    for order in orders.values():
        fulfilled = order.status == Order.Status.FULFILLED
        due = int((order.total or 0) * 100) if fulfilled else 0
        if charges[order.number] > 1 or balance[order.number] != due:
            times, cents = charges[order.number], balance[order.number]
            yield f"{order}: {times} charges, {cents} of {due} cents"


def check_stock(orders: Mapping[str, Order]) -> Iterator[str]:
    """Stock and movements agree, and each fulfilled order moved what it should."""
    for product in Product.objects.all():
        booked = StockMovement.balance(product)
        if product.stock != booked:
            yield f"{product}: {product.stock} on the shelf, {booked} booked"
    for order in orders.values():
        moved = order.movements.aggregate(total=Sum("quantity"))["total"] or 0
        wanted = order.lines.aggregate(total=Sum("quantity"))["total"]
        if -moved != (wanted if order.status == Order.Status.FULFILLED else 0):
            yield f"{order}: {-moved} pieces moved"


def check_papers(orders: Mapping[str, Order]) -> Iterator[str]:
    """Each fulfilled order has a PDF and its pictures."""
    for order in orders.values():
        if order.status != Order.Status.FULFILLED:
            continue
        invoice = Invoice.objects.filter(order=order).first()
        if invoice is None or not is_pdf(invoice):
            yield f"{order} has no invoice"
        if order.pictures.count() != order.lines.count() * len(WIDTHS):
            yield f"{order} has {order.pictures.count()} pictures"


def is_pdf(invoice: Invoice) -> bool:
    """Whether its file is there and begins as a PDF does."""
    try:
        with invoice.file.open("rb") as file:
            return bool(file.read(5) == b"%PDF-")
    except FileNotFoundError:
        return False


def check_mails(orders: Mapping[str, Order], mails: Path, *, at_most: int) -> Iterator[str]:
    """Each order's mail, to the customer or to the shop, is there."""
    sent = b"\n".join(path.read_bytes() for path in mails.glob("*.log"))
    for order in orders.values():
        job = job_of(order)
        last = job.attempts.order_by("-id").first() if job else None
        fulfilled = order.status == Order.Status.FULFILLED
        kind = "email" if fulfilled else f"alert:{last.task_id if last else ''}"
        times = sent.count(message_id(f"{job.pk}:{kind}").encode()) if job else 0
        if not 1 <= times <= at_most:
            yield f"{order}: {times} mails"


def describe(entries: Iterable[Entry]) -> str:
    """What the gateway did, in words."""
    counted = Counter(
        "declined" if entry.get("status") == 402 else entry["kind"] for entry in entries
    )
    words = {
        "charge": "{} charged",
        "refund": "{} paid back",
        "declined": "{} declined",
        "refused": "{} times HTTP 503",
        "lost": "{} answer lost on the way",
    }
    return ", ".join(words[kind].format(counted[kind]) for kind in words if counted[kind])
