"""The order form: how many of each product, and for whom."""

from typing import Any

from django import forms
from django.forms.boundfield import BoundField

from .catalogue import NewOrder, Wanted
from .models import Product

CARDS = [
    ("tok_visa", "A card that works"),
    ("tok_declined", "A card that the bank declines"),
]
MOST = 20


class OrderForm(forms.Form):
    """One quantity for each product, and the customer."""

    customer = forms.CharField(label="Name", max_length=80, initial="Mira Novak")
    email = forms.EmailField(label="E-mail", initial="mira@example.com")
    card = forms.ChoiceField(label="Pay with", choices=CARDS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        self.products = list(Product.objects.all())
        for position, product in enumerate(self.products):
            self.fields[f"quantity_{product.sku}"] = forms.IntegerField(
                label=f"Pieces of {product.name}",
                min_value=0,
                max_value=MOST,
                required=False,
                initial=1 if position < 2 else 0,
            )

    def shelf(self) -> list[tuple[Product, BoundField]]:
        """Each product with its field."""
        return [(product, self[f"quantity_{product.sku}"]) for product in self.products]

    def clean(self) -> dict[str, Any]:
        """An order is about something."""
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors and not self._wanted(cleaned):
            raise forms.ValidationError("Choose at least one product.", code="empty")
        return cleaned

    def new_order(self) -> NewOrder:
        """What was asked for; call it when the form is valid."""
        given = self.cleaned_data
        return NewOrder(
            customer=given["customer"],
            email=given["email"],
            card=given["card"],
            lines=self._wanted(given),
        )

    def _wanted(self, given: dict[str, Any]) -> tuple[Wanted, ...]:
        counted = [(product.sku, given.get(f"quantity_{product.sku}")) for product in self.products]
        return tuple(Wanted(sku, count) for sku, count in counted if count)
