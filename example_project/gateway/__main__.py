"""Run the gateway by itself: `python -m example_project.gateway --port 8001 --ledger FILE`."""

import argparse
import sys
from pathlib import Path

from example_project.gateway.ledger import Ledger
from example_project.gateway.server import Gateway, GatewayServer

DEFAULT_LEDGER = Path(__file__).resolve().parent.parent / "var" / "gateway.jsonl"


def main() -> None:
    """Serve until Ctrl+C."""
    parser = argparse.ArgumentParser(description="Acme's payment gateway")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--ledger", type=Path, default=DEFAULT_LEDGER)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds each answer takes")
    options = parser.parse_args()
    gateway = Gateway(Ledger(options.ledger), latency=options.latency)
    with GatewayServer((options.host, options.port), gateway) as server:
        sys.stdout.write(f"Payment gateway at {server.url}, ledger in {options.ledger}\n")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            sys.stdout.write("bye\n")


if __name__ == "__main__":
    main()
