"""Products and orders from CSV files, and the start of an order's sequence."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from django.db import transaction

from django_tasks_seq import executor
from django_tasks_seq.models import Job

from .models import Order, OrderLine, Product, StockMovement

DATA = Path(__file__).resolve().parent.parent / "data"
PRODUCTS_CSV = DATA / "products.csv"
ORDERS_CSV = DATA / "orders.csv"
FIRST_NUMBER = 1041


class Wanted(NamedTuple):
    """One product of a new order."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """What a customer, or a row of the CSV file, asks for."""

    customer: str
    email: str
    card: str
    lines: tuple[Wanted, ...]
    # The number in the file; the shop gives its own.
    reference: str = ""


def place_order(new: NewOrder) -> Order:
    """Save the order and start its sequence: both are there after the commit, or neither."""
    with transaction.atomic():
        order = Order.objects.create(
            number=uuid4().hex[:12], customer=new.customer, email=new.email, card=new.card
        )
        order.number = str(FIRST_NUMBER + order.pk - 1)
        order.save(update_fields=["number"])
        lines = [OrderLine(order=order, sku=sku, quantity=count) for sku, count in new.lines]
        OrderLine.objects.bulk_create(lines)
        executor.start_sequence(
            "fulfil_order",
            {"order_id": order.pk},
            subject=order,
            idempotency_key=order.number,
            created_by=new.customer,
        )
    return order


def job_of(order: Order) -> Job | None:
    """The job that fulfils the order."""
    return Job.objects.for_subject(order).first()


def read_orders(path: Path = ORDERS_CSV) -> list[NewOrder]:
    """The orders of a CSV file, a line for each product; raise `ValueError` naming the line."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [_checked(number, row) for number, row in enumerate(csv.DictReader(file), start=2)]
    return [_new_order(list(group)) for _, group in groupby(rows, key=itemgetter("order"))]


def stock_products(path: Path = PRODUCTS_CSV) -> list[Product]:
    """Make or update the products of a CSV file, and fill the shelf up to the stock it names."""
    with path.open(newline="", encoding="utf-8") as file, transaction.atomic():
        return [_stock_product(row) for row in csv.DictReader(file)]


def _stock_product(row: dict[str, str]) -> Product:
    fields = {"name": row["name"], "price": Decimal(row["price"]), "photo": row["photo"]}
    Product.objects.update_or_create(sku=row["sku"], defaults=fields)
    product = Product.objects.select_for_update().get(sku=row["sku"])
    missing = int(row["stock"]) - product.stock
    if missing > 0:
        StockMovement.record(product, missing)
    return product


def _checked(number: int, row: dict[str, str]) -> dict[str, str]:
    if None in row.values() or not row["order"]:
        raise ValueError(f"line {number}: a value is missing")
    if not row["quantity"].isdigit() or int(row["quantity"]) < 1:
        raise ValueError(f"line {number}: quantity {row['quantity']!r} is no number from 1")
    return row


def _new_order(rows: Iterable[dict[str, str]]) -> NewOrder:
    rows = list(rows)
    first = rows[0]
    return NewOrder(
        customer=first["customer"],
        email=first["email"],
        card=first["card"],
        lines=tuple(Wanted(row["sku"], int(row["quantity"])) for row in rows),
        reference=first["order"],
    )
