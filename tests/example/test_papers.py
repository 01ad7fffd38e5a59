"""What the tasks make of an order: a PDF, pictures, mails, and moved stock."""

import email
import email.policy
import zlib
from pathlib import Path

import pytest
from django.db import transaction
from PIL import Image

from example_project.shop.invoices import write_invoice
from example_project.shop.mails import alert, confirmation, message_id, send_once
from example_project.shop.models import Invoice, Order, OrderLine, Picture, Product, StockMovement
from example_project.shop.pictures import PHOTOS, WIDTHS, make_pictures
from example_project.shop.stock import OutOfStock, UnknownProduct, find_products, reserve
from tests.example.conftest import make_product


def pdf_text(data: bytes) -> str:
    """The drawing commands of a PDF, unpacked, in which its texts stand."""
    streams = [part.split(b"endstream")[0] for part in data.split(b"stream\n")[1:]]
    packed = [part for part in streams if part.startswith(b"\x78")]
    return b"\n".join(zlib.decompressobj().decompress(part) for part in packed).decode("latin-1")


def read_mails(directory: Path) -> list[email.message.EmailMessage]:
    found = []
    for path in sorted(directory.glob("*.log")):
        for part in path.read_bytes().split(b"-" * 79 + b"\n"):
            if part.strip():
                found.append(email.message_from_bytes(part, policy=email.policy.default))
    return found


def test_invoice_is_a_pdf_with_the_orders_facts(order: Order) -> None:
    """The invoice is a real PDF that names the order, the customer, the product and the sum."""
    invoice = write_invoice(order)

    data = Path(invoice.file.path).read_bytes()
    text = pdf_text(data)
    assert data.startswith(b"%PDF-1.")
    for fact in ("INV-1042", "1042", "Lars Nyg\xe5rd", "Ochre lamp", "98.00"):
        assert fact in text


def test_invoice_written_again_is_the_same_file(order: Order) -> None:
    """A second attempt leaves one row and one file, with the same bytes."""
    first, again = write_invoice(order), write_invoice(order)

    assert first.pk == again.pk
    assert first.file.name == again.file.name == "invoices/INV-1042.pdf"
    assert Invoice.objects.count() == 1
    assert len(list(Path(again.file.path).parent.iterdir())) == 1


def test_pictures_are_made_in_every_width(order: Order) -> None:
    """Each product gets a real 4:3 picture in every width, counted as it is made."""
    steps = [(done, total) for done, total, _ in make_pictures(order)]

    assert steps == [(1, 3), (2, 3), (3, 3)]
    sizes = set()
    for picture in Picture.objects.all():
        with Image.open(picture.file.path) as image:
            image.load()
            sizes.add(image.size)
            assert image.format == "JPEG"
            assert (picture.width, picture.height) == image.size
    assert sizes == {(width, width * 3 // 4) for width in WIDTHS}


def test_pictures_made_again_replace_the_old_ones(order: Order) -> None:
    """A second attempt leaves the same rows and files."""
    list(make_pictures(order))
    before = sorted(Picture.objects.values_list("pk", "file"))
    list(make_pictures(order))

    assert sorted(Picture.objects.values_list("pk", "file")) == before


def test_every_product_of_the_file_has_its_photograph() -> None:
    """The repository holds a photograph for each product, all of them small."""
    rows = (PHOTOS.parent / "products.csv").read_text().splitlines()[1:]
    names = {row.rsplit(",", 1)[1] for row in rows}

    assert names == {path.name for path in PHOTOS.iterdir()}
    assert sum(path.stat().st_size for path in PHOTOS.iterdir()) < 300_000


def test_confirmation_carries_the_invoice(order: Order, mails: Path) -> None:
    """The customer's mail has the PDF attached."""
    write_invoice(order)

    assert send_once(confirmation(order), key="a")

    [mail] = read_mails(mails)
    [attachment] = mail.iter_attachments()
    assert mail["To"] == "lars@example.com"
    assert mail["Message-ID"] == message_id("a")
    assert attachment.get_filename() == "INV-1042.pdf"
    assert attachment.get_content() == Path(order.invoice.file.path).read_bytes()


def test_mail_is_sent_once_for_each_key(order: Order, mails: Path) -> None:
    """The same key sends nothing the second time, another key does."""
    sent = [send_once(alert(order, "why"), key=key) for key in ("a", "a", "b")]

    assert sent == [True, False, True]
    assert [mail["Message-ID"] for mail in read_mails(mails)] in (
        [message_id("a"), message_id("b")],
        [message_id("b"), message_id("a")],
    )


def test_reserving_moves_stock(order: Order, product: Product) -> None:
    """What an order wants leaves the shelf, and the movement says for whom."""
    with transaction.atomic():
        moved = reserve(order)

    product.refresh_from_db()
    assert moved == ["2 x LAMP-OCHRE"]
    assert product.stock == StockMovement.balance(product) == 8
    assert order.movements.get().quantity == -2


def test_reserving_too_much_moves_nothing(order: Order, product: Product) -> None:
    """When one product is short, the whole reservation is taken back."""
    jar = make_product("JAR-GRAPHITE", "Graphite jar", "21.00", 2)
    OrderLine.objects.create(order=order, sku=jar.sku, quantity=3)

    short = "3 x Graphite jar wanted, 2 on the shelf"
    with pytest.raises(OutOfStock, match=short), transaction.atomic():
        reserve(order)

    product.refresh_from_db()
    assert product.stock == 10
    assert not order.movements.exists()


def test_unknown_product_is_named(order: Order) -> None:
    """An order for something that is not sold says what."""
    OrderLine.objects.create(order=order, sku="TEAPOT-GOLD", quantity=1)

    with pytest.raises(UnknownProduct, match="no product 'TEAPOT-GOLD'"):
        find_products(order)
