"""What the shop keeps: products and their stock, orders, and what fulfilling an order leaves."""

from decimal import Decimal

from django.db import models
from django.db.models import F, Q, Sum
from django.urls import reverse


class Product(models.Model):
    """Something on the shelf. `stock` is always the sum of its movements."""

    sku = models.CharField("SKU", max_length=32, unique=True)
    name = models.CharField(max_length=80)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    stock = models.PositiveIntegerField(default=0)
    photo = models.CharField(max_length=80, help_text="A file name in data/photos.")

    class Meta:
        ordering = ["sku"]

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """What a customer wants. Its job is the one started with `idempotency_key=order.number`."""

    class Status(models.TextChoices):
        """How far the order is, in the customer's eyes."""

        PLACED = "PLACED", "Being fulfilled"
        FULFILLED = "FULFILLED", "Fulfilled"
        NEEDS_ATTENTION = "NEEDS_ATTENTION", "Needs attention"

    number = models.CharField(max_length=12, unique=True)
    customer = models.CharField(max_length=80)
    email = models.EmailField()
    card = models.CharField(max_length=40, help_text="The gateway's token, never a card number.")
    status = models.CharField(max_length=16, choices=Status, default=Status.PLACED)
    attention = models.CharField(max_length=300, blank=True)
    total = models.DecimalField(max_digits=10, decimal_places=2, null=True, blank=True)
    refunded_charge = models.CharField(max_length=40, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"Order #{self.number}"

    def get_absolute_url(self) -> str:
        """The customer's page of this order."""
        return reverse("shop:order", args=[self.number])


class OrderLine(models.Model):
    """One product of an order, by its SKU as the customer gave it: it may not exist."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    sku = models.CharField("SKU", max_length=32)
    quantity = models.PositiveSmallIntegerField(default=1)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=Q(quantity__gte=1), name="shop_line_quantity"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.sku}"


class StockMovement(models.Model):
    """Goods that came (positive, no order) or were reserved for an order (negative)."""

    product = models.ForeignKey(Product, models.CASCADE, related_name="movements")
    order = models.ForeignKey(
        Order, models.CASCADE, related_name="movements", null=True, blank=True
    )
    quantity = models.IntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.quantity:+d} {self.product.sku}"

    @classmethod
    def record(cls, product: Product, quantity: int, order: Order | None = None) -> None:
        """Write the movement and the stock; call it in a transaction."""
        cls.objects.create(product=product, order=order, quantity=quantity)
        Product.objects.filter(pk=product.pk).update(stock=F("stock") + quantity)

    @classmethod
    def balance(cls, product: Product) -> int:
        """What the movements add up to."""
        total = cls.objects.filter(product=product).aggregate(total=Sum("quantity"))["total"]
        return int(total or 0)


class Invoice(models.Model):
    """The PDF of an order."""

    order = models.OneToOneField(Order, models.CASCADE, related_name="invoice")
    number = models.CharField(max_length=16, unique=True)
    total = models.DecimalField(max_digits=10, decimal_places=2, default=Decimal(0))
    file = models.FileField(upload_to="invoices")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"Invoice {self.number}"


class Picture(models.Model):
    """A thumbnail made for an order's page."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="pictures")
    sku = models.CharField("SKU", max_length=32)
    width = models.PositiveSmallIntegerField()
    height = models.PositiveSmallIntegerField()
    file = models.ImageField(upload_to="pictures")

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["order", "sku", "width"], name="shop_picture_once"),
        ]

    def __str__(self) -> str:
        return f"{self.sku} {self.width} x {self.height}"


class SentMail(models.Model):
    """Remembers what was sent under which idempotency key, so that it is not sent again."""

    key = models.CharField(max_length=120, unique=True)
    recipient = models.EmailField()
    subject = models.CharField(max_length=200)
    sent_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.subject} to {self.recipient}"
