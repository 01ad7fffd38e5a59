"""Fixtures of the security tests: those of the tests of the admin and of jobs."""

from tests.admin.conftest import admin_client, client_for
from tests.database.conftest import configure, declare, heard, inbox

__all__ = ["admin_client", "client_for", "configure", "declare", "heard", "inbox"]
