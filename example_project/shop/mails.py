"""Mails to customers and to the people behind the counter."""

from hashlib import sha256

from django.core.mail import EmailMessage

from .conf import shop_config
from .models import Order, SentMail


def send_once(mail: EmailMessage, *, key: str) -> bool:
    """Send it unless a mail of this key is known to be sent; return whether it was sent now.

    A crash between the sending and the row sends it again, with the same Message-ID, by which the
    receiver can tell.
    """
    if SentMail.objects.filter(key=key).exists():
        return False
    mail.extra_headers["Message-ID"] = message_id(key)
    mail.send()
    SentMail.objects.create(key=key, recipient=mail.to[0], subject=str(mail.subject))
    return True


def message_id(key: str) -> str:
    """The Message-ID of the mail of this key: always the same."""
    return f"<{sha256(key.encode()).hexdigest()[:32]}@acme.example>"


def confirmation(order: Order) -> EmailMessage:
    """Thanks the customer; the invoice is attached."""
    invoice = order.invoice
    mail = EmailMessage(
        subject=f"Your order {order.number} at Acme Shop",
        body=(
            f"Dear {order.customer},\n\nthank you: order {order.number} over EUR {order.total:.2f} "
            "is paid and on its way.\nYour invoice is attached.\n\nAcme Shop\n"
        ),
        to=[order.email],
    )
    with invoice.file.open("rb") as file:
        mail.attach(f"{invoice.number}.pdf", file.read(), "application/pdf")
    return mail


def alert(order: Order, reason: str) -> EmailMessage:
    """Tells the people behind the counter that an order needs them."""
    return EmailMessage(
        subject=f"Order {order.number} needs attention",
        body=f"{order} of {order.customer} <{order.email}> was not fulfilled.\n\n{reason}\n",
        to=[shop_config().ops_email],
    )
