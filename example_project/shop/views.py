"""The storefront, and an order's page with its live progress."""

from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from .catalogue import place_order
from .forms import OrderForm
from .models import Invoice, Order, Product
from .progress import read_progress

SHOWN = 24


@require_http_methods(["GET", "POST"])
def storefront(request: HttpRequest) -> HttpResponse:
    """Products, a form to order them, and the latest orders."""
    form = OrderForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        return redirect(place_order(form.new_order()))
    return render(request, "shop/storefront.html", {"form": form, **_latest()})


@require_GET
def orders_live(request: HttpRequest) -> HttpResponse:
    """The latest orders alone, for the page's script."""
    return _fragment(render(request, "shop/_orders.html", _latest()))


@require_GET
def order_page(request: HttpRequest, number: str) -> HttpResponse:
    """One order: how far it is, and what has been made for it."""
    return render(request, "shop/order.html", _order(number))


@require_GET
def order_live(request: HttpRequest, number: str) -> HttpResponse:
    """The part of the order's page that changes, for the page's script."""
    return _fragment(render(request, "shop/_order.html", _order(number)))


@require_GET
def invoice(request: HttpRequest, number: str) -> FileResponse:
    """The PDF."""
    found = get_object_or_404(Invoice, order__number=number)
    return FileResponse(found.file.open("rb"), filename=f"{found.number}.pdf")


def _latest() -> dict[str, object]:
    progresses = read_progress(Order.objects.all()[:SHOWN])
    return {"progresses": progresses, "active": any(item.active for item in progresses)}


def _order(number: str) -> dict[str, object]:
    order = get_object_or_404(Order, number=number)
    progress = next(iter(read_progress([order])), None)
    lines = list(order.lines.all())
    products = Product.objects.in_bulk([line.sku for line in lines], field_name="sku")
    return {
        "order": order,
        "progress": progress,
        "active": progress is not None and progress.active,
        "lines": [(line, products.get(line.sku)) for line in lines],
        "pictures": order.pictures.all(),
        "invoice": Invoice.objects.filter(order=order).first(),
    }


def _fragment(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response
