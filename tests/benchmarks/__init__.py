"""Throughput, cost, starts and latency of this app beside the bare limit: see `__main__`."""
