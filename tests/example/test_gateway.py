"""The payment gateway over real HTTP: it charges once for each key, whatever happens."""

import http.client
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from example_project.gateway.ledger import Ledger, read_ledger
from example_project.gateway.server import GatewayServer, running_gateway, troubles
from example_project.shop.payments import (
    CardDeclined,
    GatewayUnavailable,
    PaymentError,
    PaymentGateway,
)
from tests.helpers import ROOT

CALM, BUSY, VERY_BUSY, LOST = "1041", "1047", "1043", "1044"


@pytest.fixture
def client(gateway: GatewayServer) -> PaymentGateway:
    return PaymentGateway(gateway.url, timeout=5)


def charges(ledger: Path) -> list[str]:
    return [entry["order"] for entry in read_ledger(ledger) if entry["kind"] == "charge"]


def request(
    gateway: GatewayServer, body: bytes, path: str = "/charges", **headers: str
) -> tuple[int, dict[str, Any]]:
    host, port = gateway.server_address[:2]
    connection = http.client.HTTPConnection(str(host), int(port), timeout=5)
    connection.request("POST", path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    read = json.loads(answer.read())
    connection.close()
    return answer.status, read


def test_the_orders_of_these_tests_have_the_troubles_they_are_named_for() -> None:
    """Which order meets which trouble is the same at every run."""
    found = [troubles(order) for order in (CALM, BUSY, VERY_BUSY, LOST)]

    assert found == [[], ["503"], ["503", "503"], ["lost"]]


def test_same_key_returns_the_same_charge(client: PaymentGateway, ledger: Path) -> None:
    """A charge that is asked for twice under one key is made once."""
    first = client.charge(CALM, "9.50", "tok_visa", key="a")
    again = client.charge(CALM, "9.50", "tok_visa", key="a")

    assert again["id"] == first["id"]
    assert [first["replayed"], again["replayed"]] == [False, True]
    assert charges(ledger) == [CALM]


def test_key_of_another_charge_is_refused(client: PaymentGateway, ledger: Path) -> None:
    """A key that was used for another amount is an error, not a second charge."""
    client.charge(CALM, "9.50", "tok_visa", key="a")

    with pytest.raises(PaymentError, match="HTTP 422"):
        client.charge(CALM, "19.50", "tok_visa", key="a")
    assert charges(ledger) == [CALM]


def test_busy_gateway_charges_nothing_then_recovers(client: PaymentGateway, ledger: Path) -> None:
    """An answer of 503 charged nothing, and as many tries later the charge succeeds."""
    for _ in troubles(VERY_BUSY):
        with pytest.raises(GatewayUnavailable, match="HTTP 503"):
            client.charge(VERY_BUSY, "9.50", "tok_visa", key="a")
        assert charges(ledger) == []

    client.charge(VERY_BUSY, "9.50", "tok_visa", key="a")
    assert charges(ledger) == [VERY_BUSY]


def test_lost_answer_is_found_again_by_its_key(client: PaymentGateway, ledger: Path) -> None:
    """When the answer is lost after the charge, the next try gets that charge, not a new one."""
    with pytest.raises(GatewayUnavailable, match="no answer"):
        client.charge(LOST, "9.50", "tok_visa", key="a")
    assert charges(ledger) == [LOST]

    again = client.charge(LOST, "9.50", "tok_visa", key="a")
    assert again["replayed"]
    assert charges(ledger) == [LOST]


def test_declined_card_stays_declined(client: PaymentGateway, ledger: Path) -> None:
    """A declined card is no matter of trying again, and nothing is charged."""
    for _ in range(2):
        with pytest.raises(CardDeclined, match="the bank declined the card"):
            client.charge(CALM, "9.50", "tok_declined", key="a")

    assert charges(ledger) == []


def test_refund_is_given_once(client: PaymentGateway, ledger: Path) -> None:
    """Asked for twice under one key, the money goes back once."""
    charge = client.charge(CALM, "9.50", "tok_visa", key="a")
    refunds = [client.refund(charge["id"], key="a:refund") for _ in range(2)]

    assert refunds[0]["id"] == refunds[1]["id"]
    assert [entry["kind"] for entry in read_ledger(ledger)] == ["charge", "refund"]


def test_refund_of_an_unknown_charge_is_refused(client: PaymentGateway) -> None:
    """Money that was never taken is not given back."""
    with pytest.raises(PaymentError, match=r"HTTP 404.*no such charge"):
        client.refund("ch_unknown", key="a")


def test_ledger_survives_a_restart(ledger: Path) -> None:
    """A gateway that starts anew knows the keys of its former life."""
    for expected in (False, True):
        with running_gateway(ledger) as server:
            charge = PaymentGateway(server.url).charge(CALM, "9.50", "tok_visa", key="a")
        assert charge["replayed"] is expected

    assert charges(ledger) == [CALM]


def test_two_ledgers_on_one_file_settle_a_key_once(ledger: Path) -> None:
    """Two gateways that share a file and get one key at the same time charge once."""
    ledgers = [Ledger(ledger) for _ in range(2)]
    barrier = threading.Barrier(2)
    replayed = []

    def settle(mine: Ledger) -> None:
        barrier.wait(5)
        for number in range(20):
            replayed.append(mine.settle("charge", f"key-{number}", {"order": CALM}).replayed)

    threads = [threading.Thread(target=settle, args=[each]) for each in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert sorted(replayed) == [False] * 20 + [True] * 20
    assert len({entry["id"] for entry in read_ledger(ledger)}) == len(charges(ledger)) == 20


@pytest.mark.parametrize(
    ("body", "path", "headers", "status", "error"),
    [
        (b"{}", "/charges", {}, 400, "Idempotency-Key"),
        (b"{}", "/charges", {"Idempotency_Key": "a"}, 400, "'order' is missing"),
        (b"[]", "/charges", {"Idempotency_Key": "a"}, 400, "not an object"),
        (b"{", "/charges", {"Idempotency_Key": "a"}, 400, "not JSON"),
        (b"{}", "/elsewhere", {"Idempotency_Key": "a"}, 404, "unknown address"),
        (b" " * 10_001, "/charges", {"Idempotency_Key": "a"}, 413, "too long"),
    ],
)
def test_bad_requests_say_what_is_wrong(  # noqa: PLR0917 (a table's columns)
    body: bytes,
    path: str,
    headers: dict[str, str],
    status: int,
    error: str,
    gateway: GatewayServer,
    ledger: Path,
) -> None:
    """What the gateway cannot use is refused with its reason, and charges nothing."""
    answered, read = request(gateway, body, path, **headers)

    assert answered == status
    assert error in read["error"]
    assert charges(ledger) == []


def test_gateway_out_of_reach_is_worth_another_try(gateway: GatewayServer) -> None:
    """A connection that is refused is reported as unavailable, with its reason."""
    gateway.shutdown()
    gateway.server_close()

    with pytest.raises(GatewayUnavailable, match="no answer from the payment gateway"):
        PaymentGateway(gateway.url).charge(CALM, "9.50", "tok_visa", key="a")


def test_runs_as_a_process_of_its_own(ledger: Path) -> None:
    """`python -m example_project.gateway` says where it listens and charges there."""
    command = [sys.executable, "-m", "example_project.gateway", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--ledger", str(ledger), "--latency", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        url = said.split()[3].rstrip(",")
        PaymentGateway(url).charge(CALM, "9.50", "tok_visa", key="a")
    finally:
        process.kill()
        process.communicate()

    assert said.startswith("Payment gateway at http://127.0.0.1:")
    assert charges(ledger) == [CALM]
