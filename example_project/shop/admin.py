"""The shop's rows in the admin; the jobs have their own pages there."""

from typing import Any

from django.contrib import admin
from django.db.models import F
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from .catalogue import job_of
from .models import Invoice, Order, OrderLine, Picture, Product, SentMail, StockMovement


class ShopAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """What all pages of the shop's rows have in common."""

    list_per_page = 50


class OrderLineInline(admin.TabularInline):  # type: ignore[type-arg]
    """An order's products, on its page."""

    model = OrderLine
    extra = 0


@admin.register(Order)
class OrderAdmin(ShopAdmin):
    """Orders; the job is a link away."""

    list_display = ["number", "customer", "status", "total", "attention"]
    list_filter = ["status"]
    search_fields = ["number", "customer", "email"]
    readonly_fields = ["job_link", "total", "created_at"]
    inlines = [OrderLineInline]

    @admin.display(description="Job")
    def job_link(self, order: Order) -> SafeString | str:
        """Where the order's job is shown."""
        job = job_of(order)
        if job is None:
            return "-"
        address = reverse("admin:django_tasks_seq_job_change", args=[job.pk])
        return format_html('<a href="{}">{}</a>', address, job.get_status_display())


@admin.register(Product)
class ProductAdmin(ShopAdmin):
    """Products. The stock changes by movements alone."""

    list_display = ["sku", "name", "price", "stock"]
    readonly_fields = ["stock"]


@admin.register(StockMovement)
class StockMovementAdmin(ShopAdmin):
    """What came and went."""

    list_display = ["product", "quantity", "order", "created_at"]
    list_select_related = ["product", "order"]
    fields = ["product", "quantity"]

    def save_model(self, request: HttpRequest, obj: StockMovement, form: Any, change: Any) -> None:
        """Book it, on the shelf too; the admin's page is one transaction."""
        super().save_model(request, obj, form, change)
        Product.objects.filter(pk=obj.product_id).update(stock=F("stock") + obj.quantity)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What is booked stays."""
        return False


@admin.register(Invoice)
class InvoiceAdmin(ShopAdmin):
    """Invoices, with their files."""

    list_display = ["number", "order", "total", "file"]
    list_select_related = ["order"]


@admin.register(Picture)
class PictureAdmin(ShopAdmin):
    """The thumbnails that were made."""

    list_display = ["order", "sku", "width", "height"]
    list_select_related = ["order"]


@admin.register(SentMail)
class SentMailAdmin(ShopAdmin):
    """What was sent."""

    list_display = ["subject", "recipient", "sent_at"]
