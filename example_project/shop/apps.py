"""The shop as a Django app."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Products, orders, and the sequence that fulfils them."""

    name = "example_project.shop"
    label = "shop"
    verbose_name = "Acme Shop"
    default_auto_field = "django.db.models.BigAutoField"
