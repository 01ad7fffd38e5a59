"""The shop's side of the payment gateway: HTTP in limited time, errors that say what to do."""

import json
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, cast
from urllib.error import HTTPError
from urllib.request import Request, urlopen


class PaymentError(Exception):
    """The gateway did not do what it was asked to."""


class GatewayUnavailable(PaymentError):
    """Down, slow or out of reach: whether it charged is not known. Try again with the same key."""


class CardDeclined(PaymentError):
    """The bank said no, and will say no again."""


class PaymentGateway:
    """Charges and refunds cards. The same `key` never moves money twice.

    Raises `GatewayUnavailable`, `CardDeclined`, or `PaymentError` for what is our own fault.

    Example: `PaymentGateway("http://127.0.0.1:8001").charge("1041", "9.50", "tok_visa", key="k")`
    returns `{"id": "ch_…", "amount": "9.50", …}`.
    """

    def __init__(self, url: str, *, timeout: float = 5.0) -> None:
        self.url = url
        self.timeout = timeout

    def charge(self, order: str, amount: str, card: str, *, key: str) -> dict[str, Any]:
        """Take the money."""
        body = {"order": order, "amount": amount, "currency": "EUR", "card": card}
        return self._post("/charges", body, key)

    def refund(self, charge: str, *, key: str) -> dict[str, Any]:
        """Give it back."""
        return self._post("/refunds", {"charge": charge}, key)

    def _post(self, path: str, body: dict[str, str], key: str) -> dict[str, Any]:
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        data = json.dumps(body).encode()
        request = Request(self.url + path, data, headers)  # noqa: S310 (our own setting)
        try:
            with urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
                return cast("dict[str, Any]", json.load(answer))
        except HTTPError as error:
            raise self._refusal(error) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise GatewayUnavailable(f"no answer from the payment gateway: {reason}") from error

    def _refusal(self, error: HTTPError) -> PaymentError:
        reason = json.loads(error.read() or b"{}").get("error", error.reason)
        if error.code == HTTPStatus.PAYMENT_REQUIRED:
            return CardDeclined(reason)
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return GatewayUnavailable(f"HTTP {error.code} from the payment gateway: {reason}")
        return PaymentError(f"HTTP {error.code} from the payment gateway: {reason}")
