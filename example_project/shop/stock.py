"""Stock: what comes in, and what is put aside for an order."""

from .models import Order, Product, StockMovement


class OutOfStock(Exception):
    """There is less on the shelf than the order wants."""


class UnknownProduct(Exception):
    """The order names a SKU that the shop does not sell."""


def find_products(order: Order) -> dict[str, Product]:
    """The order's products by SKU; raise `UnknownProduct` for the first that does not exist."""
    skus = [line.sku for line in order.lines.all()]
    products = Product.objects.in_bulk(skus, field_name="sku")
    for sku in skus:
        if sku not in products:
            raise UnknownProduct(f"there is no product {sku!r}")
    return products


def reserve(order: Order) -> list[str]:
    """Put the order's goods aside and return what was moved; call it in a transaction.

    The rows are locked in the order of their ids, so two orders never wait for each other in a
    circle. Raises `OutOfStock`; the transaction then takes back what was moved before.
    """
    quantities = {line.sku: line.quantity for line in order.lines.all()}
    locked = Product.objects.filter(sku__in=quantities).select_for_update().order_by("pk")
    moved = []
    for product in locked:
        wanted = quantities[product.sku]
        if product.stock < wanted:
            raise OutOfStock(f"{wanted} x {product.name} wanted, {product.stock} on the shelf")
        StockMovement.record(product, -wanted, order)
        moved.append(f"{wanted} x {product.sku}")
    return moved
