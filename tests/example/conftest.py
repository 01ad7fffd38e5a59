"""The shop in the test database: its own pages, its files in a directory of the test."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import django
import pytest

from example_project.gateway.server import GatewayServer, running_gateway
from example_project.shop.models import Order, OrderLine, Product, StockMovement

FILE_BACKEND = "django.core.mail.backends.filebased.EmailBackend"


@pytest.fixture(autouse=True)
def shop_settings(settings: Any, tmp_path: Path) -> None:
    """The pages of the shop; nothing is written outside the test's directory."""
    settings.ROOT_URLCONF = "example_project.urls"
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.MEDIA_URL = "/media/"
    settings.ACME_SHOP = {"OPS_EMAIL": "ops@acme.example"}
    options = {"file_path": str(tmp_path / "mails")}
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": FILE_BACKEND, "OPTIONS": options}}
    else:
        settings.EMAIL_BACKEND = FILE_BACKEND
        settings.EMAIL_FILE_PATH = options["file_path"]


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    """Where mails are written."""
    return tmp_path / "mails"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """The gateway's ledger."""
    return tmp_path / "gateway.jsonl"


@pytest.fixture
def gateway(ledger: Path, settings: Any) -> Iterator[GatewayServer]:
    """The payment gateway, running, and known to the shop."""
    with running_gateway(ledger) as server:
        settings.ACME_SHOP = {**settings.ACME_SHOP, "GATEWAY_URL": server.url}
        yield server


@pytest.fixture
def product(db: None) -> Product:
    """Ten lamps on the shelf."""
    return make_product("LAMP-OCHRE", "Ochre lamp", "49.00", 10)


@pytest.fixture
def order(product: Product) -> Order:
    """An order of two lamps, not started."""
    order = Order.objects.create(
        number="1042", customer="Lars Nygård", email="lars@example.com", card="tok_visa", total=98
    )
    OrderLine.objects.create(order=order, sku=product.sku, quantity=2)
    return order


def make_product(sku: str, name: str, price: str, stock: int) -> Product:
    """A product with its stock booked, and a photograph that is there."""
    product = Product.objects.create(
        sku=sku, name=name, price=Decimal(price), photo=f"{sku.lower()}.jpg"
    )
    StockMovement.record(product, stock)
    product.refresh_from_db()
    return product
