"""How an order is fulfilled: the one file that django_tasks_seq asks an app for.

Every task receives what the one before returned; `context.job_payload` is what the view gave.
A task may run again after a crash, so each can: see the comment at its `TaskSpec`.
"""

import time
from decimal import Decimal
from typing import Any

from django_tasks_seq import (
    BaseErrorHandler,
    BaseSuccessHandler,
    BaseTask,
    Retry,
    TaskContext,
    TaskFailed,
    TaskSequence,
    TaskSpec,
    register_sequence,
)

from .conf import shop_config
from .injection import build_gateway
from .invoices import write_invoice
from .mails import alert, confirmation, send_once
from .models import Order
from .payments import CardDeclined, GatewayUnavailable, PaymentGateway
from .pictures import make_pictures
from .stock import find_products, reserve

Json = dict[str, Any]


class PaidBack(Exception):
    """The order's money was given back after it had failed, and not charged again."""


def validate_order(payload: Json) -> Json:
    """Look every product up and add the order up; an unknown product is no matter of retrying."""
    order = Order.objects.get(pk=payload["order_id"])
    products = find_products(order)
    total = sum(
        (products[line.sku].price * line.quantity for line in order.lines.all()), Decimal(0)
    )
    Order.objects.filter(pk=order.pk).update(total=total)
    return {"order": order.number, "amount": f"{total:.2f}"}


class ChargeCard(BaseTask):
    """Charge over HTTP. The gateway is given by the resolver in the settings."""

    def __init__(self, gateway: PaymentGateway | None = None) -> None:
        self.gateway = gateway or build_gateway()

    def execute(self, payload: Json, context: TaskContext) -> Json:
        """Charge the amount that the validation found."""
        order = find_order(context)
        # After a refund the money is to be moved once more: that is another charge.
        key = ":".join(filter(None, [context.idempotency_key, order.refunded_charge]))
        charge = self.gateway.charge(order.number, payload["amount"], order.card, key=key)
        context.logger.info("card_charged", charge=charge["id"], replayed=charge["replayed"])
        return {"charge": charge["id"], "amount": charge["amount"]}


def reserve_stock(payload: Json, context: TaskContext) -> Json:
    """Put the goods aside, in the transaction that also commits this task's outcome."""
    order = find_order(context)
    if payload["charge"] == order.refunded_charge:
        raise PaidBack("the money was given back; retry this job from 'charge'")
    return {"reserved": reserve(order)}


def write_invoice_pdf(payload: Json, context: TaskContext) -> Json:
    """Write the PDF."""
    invoice = write_invoice(find_order(context))
    return {"invoice": invoice.number, "file": invoice.file.name}


def make_thumbnails(payload: Json, context: TaskContext) -> Json:
    """Make the pictures of the order's page one by one, and tell how far it is."""
    pace = shop_config().picture_pace
    files = []
    for done, total, picture in make_pictures(find_order(context)):
        files.append(picture.file.name)
        context.report_progress(done, total, f"{picture.sku} {picture.width} px")
        time.sleep(pace)
        context.raise_if_stopping()
    return {"pictures": files}


def send_confirmation(payload: Json, context: TaskContext) -> Json:
    """Thank the customer; the invoice is attached."""
    order = find_order(context)
    sent = send_once(confirmation(order), key=context.idempotency_key)
    return {"to": order.email, "sent_now": sent}


class MarkFulfilled(BaseSuccessHandler):
    """The order is done."""

    def handle_success(self, result: Any, context: TaskContext) -> None:
        """Tell the customer's page."""
        order = Order.objects.filter(pk=context.job_payload["order_id"])
        order.update(status=Order.Status.FULFILLED, attention="")


class AlertOps(BaseErrorHandler):
    """An order that cannot be fulfilled is paid back, and somebody is told."""

    def __init__(self, gateway: PaymentGateway | None = None) -> None:
        self.gateway = gateway or build_gateway()

    def handle_error(self, error: TaskFailed, context: TaskContext) -> Json:
        """Refund, mark, alert; each may happen again and then does nothing."""
        order = find_order(context)
        reason = f"{error.task_id}: {error.message}"
        charge = context.results.get("charge", {}).get("charge", "")
        if charge:
            self.gateway.refund(charge, key=f"{context.job_id}:{charge}:refund")
            order.refunded_charge = charge
            reason += " (the money was given back)"
        order.status, order.attention = Order.Status.NEEDS_ATTENTION, reason[:300]
        order.save(update_fields=["status", "attention", "refunded_charge"])
        send_once(alert(order, reason), key=f"{context.job_id}:alert:{error.task_id}")
        return {"alerted": shop_config().ops_email, "refunded": charge}


def find_order(context: TaskContext) -> Order:
    """The order that this job is about."""
    return Order.objects.get(pk=context.job_payload["order_id"])


fulfil_order = register_sequence(
    TaskSequence(
        name="fulfil_order",
        tasks=[
            # Reads, and writes the same total again.
            ("validate", validate_order),
            # The gateway charges once for each idempotency key, however often it is asked.
            TaskSpec(
                "charge",
                ChargeCard,
                retry=Retry(
                    max_attempts=5,
                    delay=0.3,
                    max_delay=5,
                    retry_on=(GatewayUnavailable,),
                    dont_retry_on=(CardDeclined,),
                ),
                timeout=30,
            ),
            # Commits together with its outcome, so the stock is moved exactly once.
            TaskSpec("reserve", reserve_stock, atomic=True),
            # The same file is written anew.
            TaskSpec("invoice", write_invoice_pdf, retry=Retry(max_attempts=3, delay=1)),
            # The same files are written anew.
            TaskSpec("photos", make_thumbnails, retry=Retry(max_attempts=3, delay=1), timeout=60),
            # Remembers what it has sent.
            TaskSpec("email", send_confirmation, retry=Retry(max_attempts=3, delay=1), timeout=30),
        ],
        error_handler=AlertOps,
        success_handler=MarkFulfilled,
    )
)
