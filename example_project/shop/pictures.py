"""Thumbnails of the products of an order, from the photographs in `data/photos`."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from PIL import Image, ImageOps

from .models import Order, Picture, Product
from .stock import find_products

PHOTOS = Path(__file__).resolve().parent.parent / "data" / "photos"
WIDTHS = (480, 240, 120)


def plan_pictures(order: Order) -> list[tuple[Product, int]]:
    """What is to be made: every product in every width."""
    products = find_products(order)
    return [(products[sku], width) for sku in sorted(products) for width in WIDTHS]


def make_picture(order: Order, product: Product, width: int) -> Picture:
    """Make one thumbnail and its row. Again for the same: the file is written anew."""
    image = draw_thumbnail(PHOTOS / product.photo, width)
    name = f"pictures/{order.number}/{product.sku}-{width}.jpg".lower()
    default_storage.delete(name)
    stored = default_storage.save(name, ContentFile(_jpeg(image)))
    fields = {"height": image.height, "file": stored}
    picture, _ = Picture.objects.update_or_create(
        order=order, sku=product.sku, width=image.width, defaults=fields
    )
    return picture


def make_pictures(order: Order) -> Iterator[tuple[int, int, Picture]]:
    """Make all of them; after each one yield how many of how many are done, and the picture."""
    planned = plan_pictures(order)
    for done, (product, width) in enumerate(planned, start=1):
        yield done, len(planned), make_picture(order, product, width)


def draw_thumbnail(photo: Path, width: int) -> Image.Image:
    """The photograph, cut to 4:3 around its middle and scaled to the width."""
    with Image.open(photo) as image:
        size = (width, width * 3 // 4)
        return ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS)


def _jpeg(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=85, optimize=True)
    return file.getvalue()
