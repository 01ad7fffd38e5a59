"""What the shop needs to know of the settings."""

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopSettings:
    """The `ACME_SHOP` setting, with its defaults."""

    gateway_url: str = "http://127.0.0.1:8001"
    gateway_timeout: float = 5.0
    picture_pace: float = 0.0
    ops_email: str = "ops@acme.example"
    var_dir: Path = Path("var")
    mail_dir: Path = Path("var/mails")


def shop_config() -> ShopSettings:
    """Read the setting now, so that a test's override is seen."""
    given = getattr(settings, "ACME_SHOP", {})
    return ShopSettings(**{key.lower(): value for key, value in given.items()})
