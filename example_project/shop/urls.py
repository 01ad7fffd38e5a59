"""The shop's pages."""

from django.urls import path

from . import views

app_name = "shop"
urlpatterns = [
    path("", views.storefront, name="storefront"),
    path("orders/live/", views.orders_live, name="orders_live"),
    path("orders/<str:number>/", views.order_page, name="order"),
    path("orders/<str:number>/live/", views.order_live, name="order_live"),
    path("orders/<str:number>/invoice.pdf", views.invoice, name="invoice"),
]
