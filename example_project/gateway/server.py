"""A payment gateway as real ones are: over HTTP, slow, sometimes down, charging once for each key.

    POST /charges   Idempotency-Key: <key>   {"order", "amount", "currency", "card"}
    POST /refunds   Idempotency-Key: <key>   {"charge"}
    GET  /health

The same key answers with the same charge. 402: the card was declined. 503: try again, nothing was
charged. Some answers are lost after the card was charged, as happens in every network.
"""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zlib import crc32

from example_project.gateway.ledger import KeyReused, Ledger, Settled

DECLINED_CARD = "tok_declined"
BODY_LIMIT = 10_000


class AnswerLost(Exception):
    """The card was charged, but the connection breaks before the customer hears of it."""


class Refused(Exception):
    """Nothing was charged; says why."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def troubles(order: str) -> list[str]:
    """What goes wrong at the first tries for this order: the same at every run.

    Example: `troubles("1042") == ["503", "503"]` may hold; most orders have `[]`.
    """
    dice = crc32(order.encode()) % 8
    return {0: ["503"], 1: ["503", "503"], 2: ["lost"]}.get(dice, [])


class Gateway:
    """Decides about charges and refunds; knows nothing of HTTP but its status codes."""

    def __init__(self, ledger: Ledger, *, latency: float = 0.0) -> None:
        self.ledger = ledger
        self.latency = latency
        self._tries: Counter[str] = Counter()

    def charge(self, key: str, body: dict[str, Any]) -> Settled:
        """Charge once for each key, or raise `Refused` or `AnswerLost`."""
        details = {name: str(body[name]) for name in ("order", "amount", "currency", "card")}
        time.sleep(self.latency)
        if details["card"] == DECLINED_CARD:
            self._refuse(key, details, HTTPStatus.PAYMENT_REQUIRED, "the bank declined the card")
        trouble = self._trouble(key, details["order"])
        if trouble == "503":
            self._refuse(key, details, HTTPStatus.SERVICE_UNAVAILABLE, "down for a moment")
        settled = self.ledger.settle("charge", key, details)
        if trouble == "lost":
            self.ledger.note("lost", key, details)
            raise AnswerLost
        return settled

    def refund(self, key: str, body: dict[str, Any]) -> Settled:
        """Give a charge back, once for each key."""
        charge = self.ledger.find(str(body["charge"]))
        if charge is None or charge["kind"] != "charge":
            raise Refused(HTTPStatus.NOT_FOUND, "no such charge")
        details = {name: charge[name] for name in ("order", "amount", "currency")}
        return self.ledger.settle("refund", key, {"charge": charge["id"], **details})

    def _trouble(self, key: str, order: str) -> str | None:
        ahead = troubles(order)
        self._tries[key] += 1
        tries = self._tries[key]
        return ahead[tries - 1] if tries <= len(ahead) else None

    def _refuse(self, key: str, details: dict[str, Any], status: HTTPStatus, why: str) -> None:
        self.ledger.note("refused", key, {**details, "status": int(status)})
        raise Refused(status, why)


class GatewayServer(ThreadingHTTPServer):
    """Serves one `Gateway`, each request in a thread of its own."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], gateway: Gateway) -> None:
        super().__init__(address, GatewayHandler)
        self.gateway = gateway

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A customer that has gone, as a killed worker has, is no error of the gateway."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"


class GatewayHandler(BaseHTTPRequestHandler):
    """Turns requests into calls of the gateway, and what it says into answers."""

    server: GatewayServer
    timeout = 10

    def do_GET(self) -> None:
        """`/health` only."""
        if self.path == "/health":
            self._answer(HTTPStatus.OK, {"status": "ok"})
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error": "unknown address"})

    def do_POST(self) -> None:
        """`/charges` and `/refunds`."""
        try:
            settled = self._settle()
        except AnswerLost:
            self.close_connection = True
        except Refused as refused:
            self._answer(refused.status, {"error": refused.reason})
        except KeyReused:
            error = "this Idempotency-Key was used for something else"
            self._answer(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": error})
        else:
            status = HTTPStatus.OK if settled.replayed else HTTPStatus.CREATED
            self._answer(status, {**settled.entry, "replayed": settled.replayed})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
        """Say nothing: the ledger tells it all."""

    def _settle(self) -> Settled:
        gateway = self.server.gateway
        actions = {"/charges": gateway.charge, "/refunds": gateway.refund}
        body = self._body()
        if self.path not in actions:
            raise Refused(HTTPStatus.NOT_FOUND, "unknown address")
        key = self.headers.get("Idempotency-Key", "")
        if not key:
            raise Refused(HTTPStatus.BAD_REQUEST, "the Idempotency-Key header is missing")
        try:
            return actions[self.path](key, body)
        except KeyError as missing:
            raise Refused(HTTPStatus.BAD_REQUEST, f"{missing} is missing") from None

    def _body(self) -> dict[str, Any]:
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_LIMIT:
            self.close_connection = True
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long")
        try:
            body = json.loads(self.rfile.read(length))
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None
        if not isinstance(body, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, "the body is not an object")
        return body

    def _answer(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def running_gateway(
    ledger: Path, *, host: str = "127.0.0.1", port: int = 0, latency: float = 0.0
) -> Iterator[GatewayServer]:
    """Serve in a thread while the block runs; port 0 takes a free one.

    Example: `with running_gateway(Path("ledger.jsonl")) as gateway: print(gateway.url)`.
    """
    server = GatewayServer((host, port), Gateway(Ledger(ledger), latency=latency))
    thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
