"""The shop's pages: they show what is so, place orders, and need no script."""

import re
from pathlib import Path

import pytest
from django.test import Client

from django_tasks_seq.models import Job, TaskStatus
from example_project.shop import views
from example_project.shop.catalogue import NewOrder, Wanted, job_of, place_order, stock_products
from example_project.shop.invoices import write_invoice
from example_project.shop.models import Order

pytestmark = pytest.mark.django_db

WANTED = {"customer": "Mira", "email": "mira@example.com", "card": "tok_visa"}
TEMPLATES = Path(views.__file__).parent / "templates"


@pytest.fixture
def placed() -> Order:
    stock_products()
    lines = (Wanted("CUP-BLUE", 2), Wanted("TEAPOT-GOLD", 1))
    return place_order(
        NewOrder(customer="Anna", email="anna@example.com", card="tok_visa", lines=lines)
    )


def job_for(order: Order) -> Job:
    job = job_of(order)
    assert job is not None
    return job


def set_job(order: Order, status: str, *tasks: tuple[str, str]) -> Job:
    """The order's job and its first tasks as a worker would leave them."""
    job = job_for(order)
    for position, (task_id, state) in enumerate(tasks):
        TaskStatus.objects.create(
            job=job, task_id=task_id, position=position, status=state, attempts=position + 1
        )
    Job.objects.filter(pk=job.pk).update(status=status)
    return job


def test_storefront_shows_products_and_orders(client: Client, placed: Order) -> None:
    """The first page shows the products with their pictures, and the latest orders."""
    page = client.get("/").content.decode()

    assert page.count('class="product"') == 8
    assert "photos/cup-blue.jpg" in page
    assert f"#{placed.number}" in page
    assert "In the queue" in page


def test_empty_shop_says_how_to_fill_it(client: Client) -> None:
    """Before anything was imported the page says what to do."""
    page = client.get("/").content.decode()

    assert "make demo" in page
    assert "None yet." in page


def test_post_places_an_order_and_starts_its_job(client: Client) -> None:
    """Sending the form leads to the page of a new order whose job is started."""
    stock_products()

    answer = client.post("/", {**WANTED, "quantity_CUP-BLUE": "2", "quantity_LAMP-OCHRE": "0"})

    order = Order.objects.get()
    assert answer.status_code == 302
    assert answer["Location"] == order.get_absolute_url()
    assert list(order.lines.values_list("sku", "quantity")) == [("CUP-BLUE", 2)]
    assert job_for(order).payload == {"order_id": order.pk}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"quantity_CUP-BLUE": "0"}, "Choose at least one product."),
        ({"quantity_CUP-BLUE": "21"}, "Pieces of Blue cup: Ensure this value is less than"),
        ({"email": "nobody"}, "E-mail: Enter a valid email address."),
        ({"card": "4242424242424242"}, "Pay with: Select a valid choice."),
    ],
)
def test_bad_form_starts_nothing(client: Client, change: dict[str, str], error: str) -> None:
    """What is wrong is said in words, and no order is placed."""
    stock_products()

    page = client.post("/", {**WANTED, "quantity_CUP-BLUE": "1", **change}).content.decode()

    assert error in page
    assert not Order.objects.exists()
    assert not Job.objects.exists()


def test_order_page_shows_a_retry(client: Client, placed: Order) -> None:
    """An order that waits for a retry says so, with what is done and what is to come."""
    set_job(placed, "WAITING", ("validate", "SUCCESSFUL"), ("charge", "WAITING"))

    page = client.get(placed.get_absolute_url()).content.decode()

    assert "↻ Waiting" in page
    assert "retry after attempt 2" in page
    assert page.count("to do") == 4
    assert 'data-active="yes"' in page


def test_order_page_shows_progress_of_a_running_task(client: Client, placed: Order) -> None:
    """A running task's progress is shown as a bar and in words."""
    set_job(placed, "RUNNING", ("validate", "SUCCESSFUL"), ("charge", "RUNNING"))
    TaskStatus.objects.filter(task_id="charge").update(progress={"done": 4, "total": 6})

    page = client.get(f"{placed.get_absolute_url()}live/").content.decode()

    assert '<progress max="6" value="4">' in page
    assert "attempt 2, 4 of 6" in page
    assert 'data-said="Being fulfilled, 1 of 6 tasks done"' in page


def test_short_task_without_a_row_is_shown_running(client: Client, placed: Order) -> None:
    """The task after the last that is done runs, though it has no row yet."""
    set_job(placed, "RUNNING", ("validate", "SUCCESSFUL"))

    page = client.get(placed.get_absolute_url()).content.decode()

    assert page.count("s-RUNNING") == 1
    assert page.index("s-SUCCESSFUL") < page.index("s-RUNNING") < page.index("s-TODO")


def test_order_page_names_what_is_unknown_and_why_it_failed(client: Client, placed: Order) -> None:
    """An order that needs attention begins with the reason."""
    placed.status, placed.attention = Order.Status.NEEDS_ATTENTION, "validate: no such teapot"
    placed.save()

    page = client.get(placed.get_absolute_url()).content.decode()

    assert 'role="alert"' in page
    assert "validate: no such teapot" in page
    assert re.search(r"TEAPOT-GOLD</th><td class=\"price\">unknown", page)


def test_order_page_links_the_job_and_the_invoice(client: Client, order: Order) -> None:
    """The page of an order without a job still gives the invoice; with one it leads to the admin."""
    write_invoice(order)
    page = client.get(order.get_absolute_url()).content.decode()
    answer = client.get(f"{order.get_absolute_url()}invoice.pdf")

    assert "There is no job for this order any more." in page
    assert f"{order.get_absolute_url()}invoice.pdf" in page
    assert answer["Content-Type"] == "application/pdf"
    assert b"".join(answer.streaming_content).startswith(b"%PDF")  # type: ignore[attr-defined]


def test_order_page_leads_to_the_job_in_the_admin(client: Client, placed: Order) -> None:
    """Whoever may see the admin is one click away from the job."""
    page = client.get(placed.get_absolute_url()).content.decode()

    assert f"/admin/django_tasks_seq/job/{job_for(placed).pk}/change/" in page


def test_live_parts_are_not_kept_by_browsers(client: Client, placed: Order) -> None:
    """What the script asks for every second is never an old copy."""
    for address in ("/orders/live/", f"{placed.get_absolute_url()}live/"):
        answer = client.get(address)

        assert answer["Cache-Control"] == "no-store"
        assert b"<html" not in answer.content


def test_settled_order_is_asked_for_no_more(client: Client, placed: Order) -> None:
    """When the job is settled the page says that there is nothing to wait for."""
    job = job_for(placed)
    Job.objects.filter(pk=job.pk).update(status="SUCCESSFUL", finished_at=job.created_at)

    assert 'data-active="no"' in client.get(f"{placed.get_absolute_url()}live/").content.decode()
    assert 'data-active="no"' in client.get("/orders/live/").content.decode()


def test_unknown_order_is_not_found(client: Client) -> None:
    """A number that no order has leads nowhere, and so does its invoice."""
    for address in ("/orders/1/", "/orders/1/live/", "/orders/1/invoice.pdf"):
        assert client.get(address).status_code == 404


def test_orders_take_a_constant_number_of_queries(
    client: Client, django_assert_num_queries: object
) -> None:
    """The list costs three queries, however many orders it shows."""
    for number in range(5):
        place_order(
            NewOrder(
                customer=f"C{number}",
                email="c@example.com",
                card="tok_visa",
                lines=(Wanted("CUP-BLUE", 1),),
            )
        )

    with django_assert_num_queries(3):
        client.get("/orders/live/")


def test_pages_hold_no_inline_script_or_style() -> None:
    """Under a strict content security policy everything still works."""
    for path in TEMPLATES.rglob("*.html"):
        source = path.read_text()

        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", source), path
        assert not re.search(r"<script(?![^>]*\ssrc=)", source), path


def test_admin_shows_orders(admin_client: Client, placed: Order) -> None:
    """The shop's rows are in the admin, an order with a link to its job."""
    listed = admin_client.get("/admin/shop/order/").content.decode()
    page = admin_client.get(f"/admin/shop/order/{placed.pk}/change/").content.decode()

    assert placed.number in listed
    assert f"/admin/django_tasks_seq/job/{job_for(placed).pk}/change/" in page
    for model in ("product", "stockmovement", "invoice", "picture", "sentmail"):
        assert admin_client.get(f"/admin/shop/{model}/").status_code == 200
