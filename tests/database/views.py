"""Views that start jobs, as a site has them."""

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from django_tasks_seq import executor
from tests.testapp.models import Order


class DeclinedError(Exception):
    """Raised by a view after it has started a job."""


def place_order(request: HttpRequest) -> HttpResponse:
    """Create an order and start its job; with `?fail` raise afterwards."""
    order = Order.objects.create(number=request.GET["number"])
    job = executor.start_sequence("probe", {"order_id": order.pk}, subject=order)
    if "fail" in request.GET:
        raise DeclinedError
    return HttpResponse(str(job.id))


@transaction.non_atomic_requests(using="default")
def place_order_without(request: HttpRequest) -> HttpResponse:
    """The same outside of any transaction."""
    return place_order(request)


async def place_order_async(request: HttpRequest) -> HttpResponse:
    """Start a job from an async view."""
    job = await executor.astart_sequence("probe", {"number": request.GET["number"]})
    return HttpResponse(str(job.id))


urlpatterns = [
    path("order", place_order),
    path("order-without", place_order_without),
    path("order-async", place_order_async),
]
