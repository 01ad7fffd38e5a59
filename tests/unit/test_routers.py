"""JobRouter: our tables on the alias of DATABASE, no word for others."""

import pytest
from django.contrib.auth.models import User
from django.db import router

from django_tasks_seq.models import Job
from django_tasks_seq.routers import JobRouter


@pytest.fixture(autouse=True)
def _jobs_elsewhere(settings):
    settings.TASKS_SEQ = {"DATABASE": "jobs"}
    settings.DATABASE_ROUTERS = ["django_tasks_seq.routers.JobRouter"]


def test_our_models_are_read_and_written_where_database_says():
    """Both directions lead to the alias, other models to Django's default."""
    assert (router.db_for_read(Job), router.db_for_write(Job)) == ("jobs", "jobs")
    assert (router.db_for_read(User), router.db_for_write(User)) == ("default", "default")


def test_our_tables_are_made_there_alone():
    """`migrate` makes them on one alias; for other apps the router has no opinion."""
    assert router.allow_migrate("jobs", "django_tasks_seq") is True
    assert router.allow_migrate("default", "django_tasks_seq") is False
    assert JobRouter().allow_migrate("jobs", "auth") is None
