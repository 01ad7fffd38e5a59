"""Where it was measured: figures travel badly, and never without this."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import django_tasks_seq
from tests.benchmarks.databases import PostgresDatabases

PACKAGES = ("Django", "psycopg", "psycopg-binary")


def describe(postgres: PostgresDatabases | None) -> dict[str, str]:
    """The machine, the versions, and what a commit is worth."""
    found = {
        "cores": str(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ),
        "CPU": _cpu_model(),
        "system": f"{platform.system()} {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "Python": platform.python_version(),
        "django-tasks-seq": django_tasks_seq.__version__,
        **{package: _version(package) for package in PACKAGES},
        "SQLite": f"{sqlite3.sqlite_version}, journal_mode=WAL, synchronous=NORMAL",
    }
    if postgres is not None:
        settings = postgres.describe()
        found["PostgreSQL"] = settings.pop("server_version")
        found["PostgreSQL settings"] = ", ".join(f"{k}={v}" for k, v in settings.items())
        found["PostgreSQL is durable"] = (
            "yes" if settings["fsync"] == "on" and settings["synchronous_commit"] == "on" else "no"
        )
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
