"""Products and orders from the files, and the start of an order's job."""

from pathlib import Path

import pytest
from django.db import transaction

from django_tasks_seq.models import Job
from example_project.shop.catalogue import (
    NewOrder,
    Wanted,
    job_of,
    place_order,
    read_orders,
    stock_products,
)
from example_project.shop.demonstration.verify import PLANNED
from example_project.shop.models import Order, Product, StockMovement

HEADER = "order,customer,email,card,sku,quantity\n"
NEW = NewOrder(
    customer="Anna", email="anna@example.com", card="tok_visa", lines=(Wanted("CUP-BLUE", 2),)
)


def test_orders_of_the_file_are_read_with_their_lines() -> None:
    """The file in the repository holds twelve orders of two products each."""
    orders = read_orders()

    assert [order.reference for order in orders] == [str(number) for number in range(1041, 1053)]
    assert orders[0].lines == (Wanted("CUP-BLUE", 2), Wanted("BOWL-SAND", 2))
    assert {len(order.lines) for order in orders} == {2}
    assert orders[7].customer == "Hugo Marín"
    assert set(PLANNED) < {order.reference for order in orders}


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ("1,A,a@b.c,tok,CUP-BLUE,0", "line 2: quantity '0'"),
        ("1,A,a@b.c,tok,CUP-BLUE,two", "line 2: quantity 'two'"),
        ("1,A,a@b.c,tok,CUP-BLUE", "line 2: a value is missing"),
    ],
)
def test_bad_line_of_an_order_file_is_named(tmp_path: Path, row: str, error: str) -> None:
    """A line that cannot be used is refused by its number and value."""
    path = tmp_path / "orders.csv"
    path.write_text(f"{HEADER}{row}\n")

    with pytest.raises(ValueError, match=error):
        read_orders(path)


@pytest.mark.django_db
def test_stocking_fills_the_shelf_up_and_books_it() -> None:
    """Stocking again brings what is missing, no more, and movements add up to the stock."""
    stock_products()
    cup = Product.objects.get(sku="CUP-BLUE")
    with transaction.atomic():
        StockMovement.record(cup, -15)
    stock_products()

    cup.refresh_from_db()
    assert Product.objects.count() == 8
    assert cup.stock == StockMovement.balance(cup) == 40
    assert list(cup.movements.values_list("quantity", flat=True)) == [40, -15, 15]


@pytest.mark.django_db
def test_placing_an_order_starts_its_job() -> None:
    """The order's job is about the order, under its number, and asked for by the customer."""
    order = place_order(NEW)

    job = job_of(order)
    assert job is not None
    assert (job.sequence, job.payload) == ("fulfil_order", {"order_id": order.pk})
    assert (job.idempotency_key, job.subject_label) == (order.number, f"Order #{order.number}")
    assert job.created_by == "Anna"


@pytest.mark.django_db
def test_orders_are_numbered_one_after_the_other() -> None:
    """Each order has the number after the last one's."""
    first, second = place_order(NEW), place_order(NEW)

    assert int(second.number) == int(first.number) + 1 > 1041


@pytest.mark.django_db
def test_order_that_is_rolled_back_leaves_no_job() -> None:
    """When the caller's transaction is rolled back, neither the order nor its job is there."""
    with transaction.atomic():
        place_order(NEW)
        transaction.set_rollback(True)

    assert not Order.objects.exists()
    assert not Job.objects.exists()
