"""The check that asks a server for its version."""

from typing import Any

import pytest

from django_tasks_seq import server_checks
from django_tasks_seq.server_checks import check_server


class Pretend:
    """A connection to a server of another kind."""

    vendor = "mysql"

    def __init__(self, name: str, *version: int) -> None:
        self.display_name = name
        self.mysql_is_mariadb = name == "MariaDB"
        self.mysql_version = version


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Any:
    def put(*args: Any) -> None:
        monkeypatch.setattr(server_checks, "connections", {"default": Pretend(*args)})

    return put


@pytest.mark.parametrize("server", [("MariaDB", 10, 5, 29), ("MySQL", 8, 4, 3)])
def test_e013_a_server_that_cannot_claim(pretend: Any, server: tuple[Any, ...]) -> None:
    """E013 names the server and its version."""
    pretend(*server)

    (found,) = check_server(databases=["default"])

    version = ".".join(map(str, server[1:]))
    assert found.id == "django_tasks_seq.E013"
    assert found.msg == f"'default' is {server[0]} {version}, where jobs cannot be claimed."
    assert found.hint == "Use MariaDB 10.6 or later, PostgreSQL or SQLite."


def test_a_server_that_can_is_fine(pretend: Any) -> None:
    """The first MariaDB that passes by held rows, and later ones."""
    pretend("MariaDB", 10, 6, 0)

    assert check_server(databases=["default"]) == []


def test_a_server_that_was_not_named_is_not_asked(pretend: Any) -> None:
    """A plain `check` opens no connection."""
    pretend("MySQL", 8, 4, 3)

    assert check_server() == check_server(databases=["other"]) == []


@pytest.mark.django_db
def test_the_database_of_this_run_is_fine() -> None:
    """Whatever it is."""
    assert check_server(databases=["default", "jobs"]) == []
