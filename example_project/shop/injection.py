"""What tasks and handlers are given when their constructor asks for it: `TASKS_SEQ["RESOLVER"]`."""

from collections.abc import Callable

from .conf import shop_config
from .payments import PaymentGateway


def build_gateway() -> PaymentGateway:
    """The gateway of the settings."""
    config = shop_config()
    return PaymentGateway(config.gateway_url, timeout=config.gateway_timeout)


FACTORIES: dict[type, Callable[[], object]] = {PaymentGateway: build_gateway}


def resolve(wanted: type) -> object:
    """An object of the wanted type; a larger project would ask its DI container here."""
    return FACTORIES[wanted]()
