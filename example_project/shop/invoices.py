"""Invoices as PDF."""

from decimal import Decimal

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from fpdf import FPDF
from fpdf.fonts import FontFace

from .models import Invoice, Order
from .stock import find_products

ACCENT = (15, 76, 92)


def write_invoice(order: Order) -> Invoice:
    """Make the PDF and its row. Again for the same order: the same file is written anew."""
    number = f"INV-{order.number}"
    name = f"invoices/{number}.pdf"
    default_storage.delete(name)
    stored = default_storage.save(name, ContentFile(draw_invoice(order, number)))
    fields = {"number": number, "total": order.total or Decimal(0), "file": stored}
    invoice, _ = Invoice.objects.update_or_create(order=order, defaults=fields)
    return invoice


def draw_invoice(order: Order, number: str) -> bytes:
    """The PDF's bytes."""
    pdf = FPDF(format="A4")
    pdf.set_title(f"Invoice {number}")
    pdf.set_creation_date(order.created_at)
    pdf.set_margin(20)
    pdf.add_page()
    _draw_head(pdf, order, number)
    _draw_lines(pdf, order)
    _draw_foot(pdf, order)
    return bytes(pdf.output())


def _draw_head(pdf: FPDF, order: Order, number: str) -> None:
    pdf.set_font("helvetica", "B", 26)
    pdf.set_text_color(*ACCENT)
    pdf.cell(0, 14, "Acme Shop", new_x="LMARGIN", new_y="NEXT")
    pdf.set_draw_color(*ACCENT)
    pdf.line(20, pdf.get_y() + 1, 190, pdf.get_y() + 1)
    pdf.ln(10)
    pdf.set_text_color(40)
    pdf.set_font("helvetica", size=11)
    dated = f"{order.created_at:%d %B %Y}"
    head = (
        f"**Invoice {number}**\nOrder {order.number} of {dated}\n\n{order.customer}\n{order.email}"
    )
    pdf.multi_cell(0, 6, _latin(head), markdown=True, new_x="LMARGIN", new_y="NEXT")
    pdf.ln(8)


def _draw_lines(pdf: FPDF, order: Order) -> None:
    products = find_products(order)
    heading = FontFace(emphasis="BOLD", color=(255, 255, 255), fill_color=ACCENT)
    with pdf.table(
        col_widths=(18, 76, 30, 30),
        text_align=("RIGHT", "LEFT", "RIGHT", "RIGHT"),
        headings_style=heading,
        borders_layout="HORIZONTAL_LINES",
        line_height=8,
    ) as table:
        table.row(("Pieces", "Product", "Each, EUR", "Sum, EUR"))
        for line in order.lines.all():
            product = products[line.sku]
            total = product.price * line.quantity
            name = _latin(f"{product.name} ({product.sku})")
            table.row((str(line.quantity), name, f"{product.price:.2f}", f"{total:.2f}"))


def _draw_foot(pdf: FPDF, order: Order) -> None:
    pdf.ln(4)
    pdf.set_font("helvetica", "B", 13)
    pdf.cell(0, 10, f"Total  EUR {order.total or 0:.2f}", align="R", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("helvetica", size=10)
    pdf.set_text_color(110)
    pdf.cell(0, 8, "Paid by card. Thank you!", new_x="LMARGIN", new_y="NEXT")


def _latin(text: str) -> str:
    """What the PDF's built-in fonts can show."""
    return text.encode("latin-1", "replace").decode("latin-1")
