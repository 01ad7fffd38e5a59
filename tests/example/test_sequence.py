"""The sequence of an order, run by the engine against a gateway that is really there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from django_tasks_seq import executor
from django_tasks_seq.models import Job
from django_tasks_seq.testing import advance, drain, restored_clock
from example_project.gateway.ledger import read_ledger
from example_project.gateway.server import GatewayServer, troubles
from example_project.shop.catalogue import NewOrder, Wanted, job_of, place_order, stock_products
from example_project.shop.models import Invoice, Order, Picture, Product, SentMail
from example_project.shop.tasks_sequences import ChargeCard

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def shop(gateway: GatewayServer) -> Iterator[None]:
    """A gateway that answers, shelves that are full, and a clock that can be moved."""
    stock_products()
    with restored_clock():
        yield


def place(trouble: list[str] | None = None, **change: Any) -> Order:
    """An order whose charge meets this trouble, and whose number decides it."""
    given = {"card": "tok_visa", "lines": (Wanted("CUP-BLUE", 2), Wanted("JAR-GRAPHITE", 1))}
    new = NewOrder(customer="Anna", email="anna@example.com", **{**given, **change})
    order = place_order(new)
    number = next(n for n in range(1041, 2000) if troubles(str(n)) == (trouble or []))
    Order.objects.filter(pk=order.pk).update(number=str(number))
    order.refresh_from_db()
    return order


def work(order: Order) -> Job:
    """Let the order's job run, retries included, until it is settled."""
    job = job_of(order)
    assert job is not None
    for _ in range(6):
        drain()
        if job.refresh().is_settled:
            break
        advance(minutes=1)
    order.refresh_from_db()
    return job


def kinds(ledger: Path) -> list[str]:
    return [entry["kind"] for entry in read_ledger(ledger)]


def test_order_is_fulfilled(ledger: Path) -> None:
    """Every task leaves what it should, and the order is fulfilled."""
    order = place()
    job = work(order)

    assert job.status == "SUCCESSFUL"
    assert job.result == {"to": "anna@example.com", "sent_now": True}
    assert order.status == Order.Status.FULFILLED
    assert str(order.total) == "40.00"
    assert [entry["amount"] for entry in read_ledger(ledger)] == ["40.00"]
    assert Product.objects.get(sku="CUP-BLUE").stock == 38
    assert Path(Invoice.objects.get().file.path).exists()
    assert Picture.objects.count() == 6
    assert SentMail.objects.get().recipient == "anna@example.com"


@pytest.mark.parametrize(
    ("trouble", "written"),
    [
        (["503", "503"], ["refused", "refused", "charge"]),
        (["lost"], ["charge", "lost"]),
    ],
)
def test_gateway_in_trouble_charges_once(
    trouble: list[str], written: list[str], ledger: Path
) -> None:
    """A gateway that is down, or whose answer is lost, is asked again and charges once."""
    order = place(trouble)
    job = work(order)

    assert order.status == Order.Status.FULFILLED
    assert kinds(ledger) == written
    assert job.task_statuses.get(task_id="charge").attempts == len(trouble) + 1


def test_declined_card_is_not_tried_again(ledger: Path) -> None:
    """A declined card fails the job at its first attempt; nothing is charged, ops are told."""
    order = place(card="tok_declined")
    job = work(order)

    assert job.status == "FAILED"
    assert job.task_statuses.get(task_id="charge").attempts == 1
    assert "CardDeclined: the bank declined the card" in job.error
    assert order.status == Order.Status.NEEDS_ATTENTION
    assert order.attention == "charge: the bank declined the card"
    assert kinds(ledger) == ["refused"]
    assert SentMail.objects.get().recipient == "ops@acme.example"


def test_unknown_product_is_not_charged(ledger: Path) -> None:
    """An order for what is not sold fails before any money is moved."""
    order = place(lines=(Wanted("TEAPOT-GOLD", 1),))
    work(order)

    assert order.attention == "validate: there is no product 'TEAPOT-GOLD'"
    assert kinds(ledger) == []


def test_out_of_stock_is_paid_back(ledger: Path) -> None:
    """When the goods are not there, no stock is moved and the money goes back."""
    order = place(lines=(Wanted("CUP-BLUE", 1), Wanted("JAR-GRAPHITE", 3)))
    job = work(order)

    assert "OutOfStock: 3 x Graphite jar wanted, 2 on the shelf" in job.error
    assert job.error_result["refunded"] == read_ledger(ledger)[0]["id"]
    assert kinds(ledger) == ["charge", "refund"]
    assert not order.movements.exists()
    assert "the money was given back" in order.attention


def test_paid_back_order_is_not_shipped_unpaid(ledger: Path) -> None:
    """A retry from the failed task, after the refund, fails again and says what to do."""
    order = place(lines=(Wanted("JAR-GRAPHITE", 3),))
    job = work(order)
    Product.objects.filter(sku="JAR-GRAPHITE").update(stock=5)
    executor.retry(job, by="admin")
    work(order)

    assert "retry this job from 'charge'" in order.attention
    assert kinds(ledger) == ["charge", "refund"]


def test_paid_back_order_is_charged_anew(ledger: Path) -> None:
    """Retried from the charge, the order is paid by a second charge and fulfilled."""
    order = place(lines=(Wanted("JAR-GRAPHITE", 3),))
    job = work(order)
    Product.objects.filter(sku="JAR-GRAPHITE").update(stock=5)
    executor.retry(job, from_task="charge", by="admin")
    work(order)

    assert order.status == Order.Status.FULFILLED
    assert order.attention == ""
    assert kinds(ledger) == ["charge", "refund", "charge"]
    assert len({entry["key"] for entry in read_ledger(ledger)}) == 3


def test_error_handler_that_runs_again_does_nothing_more(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that breaks after the refund is run again: one refund, one alert."""
    sends: list[str] = []

    def broken_once(mail: object, *, key: str) -> bool:
        sends.append(key)
        if len(sends) == 1:
            raise OSError("the disk is full")
        return True

    monkeypatch.setattr("example_project.shop.tasks_sequences.send_once", broken_once)
    order = place(lines=(Wanted("JAR-GRAPHITE", 3),))
    job = work(order)

    assert kinds(ledger) == ["charge", "refund"]
    assert sends == [sends[0]] * 2
    assert (order.status, job.status) == (Order.Status.NEEDS_ATTENTION, "FAILED")
    assert job.handler_error == ""


def test_gateway_is_injected_by_the_resolver(settings: Any, ledger: Path) -> None:
    """With RESOLVER set the task charges through the gateway that it is given."""
    settings.TASKS_SEQ = {"RESOLVER": "example_project.shop.injection.resolve"}
    work(place())

    assert kinds(ledger) == ["charge"]
    assert ChargeCard().gateway.url == settings.ACME_SHOP["GATEWAY_URL"]


def test_stock_that_comes_in_is_booked_in_the_admin(admin_client: Client) -> None:
    """A movement that is added in the admin fills the shelf."""
    jar = Product.objects.get(sku="JAR-GRAPHITE")
    answer = admin_client.post(
        "/admin/shop/stockmovement/add/", {"product": jar.pk, "quantity": "5"}
    )

    jar.refresh_from_db()
    assert answer.status_code == 302
    assert (jar.stock, jar.movements.count()) == (7, 2)
