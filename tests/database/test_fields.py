"""`JSONTextField`: JSON kept verbatim as text, checked on its way in."""

from decimal import Decimal
from typing import Any

import pytest
from django.core import serializers
from django.db import connection

from django_tasks_seq import InvalidPayload
from django_tasks_seq.models import Job
from tests.factories import JobFactory

pytestmark = pytest.mark.django_db
VALUES: list[Any] = [{"b": 1e16, "a": -0.0}, [], {}, "", "text", 0, 1.0, False, [None], None]


def text_of(job: Job) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT payload FROM {Job._meta.db_table}")
        return cursor.fetchone()[0]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    """What is saved is read as it was, and None is NULL."""
    job = JobFactory.create(payload=value)

    assert repr(Job.objects.get().payload) == repr(value)
    assert (text_of(job) is None) is (value is None)


def test_the_text_is_what_json_wrote() -> None:
    """The order of keys and the spelling of numbers are kept in the database."""
    job = JobFactory.create(payload={"b": 1e16, "a": -0.0, "ä": "ö"})

    assert text_of(job) == '{"b": 1e+16, "a": -0.0, "ä": "ö"}'


@pytest.mark.parametrize("value", [Decimal(1), {"x": float("nan")}, "a\0b", (1, 2), {1: 2}])
def test_what_is_no_json_is_refused(value: Any) -> None:
    """A value that JSON would change or cannot hold is refused before any SQL."""
    job = JobFactory.create()
    job.payload = value

    with pytest.raises(InvalidPayload, match="payload"):
        job.save()


def test_values_can_be_looked_for() -> None:
    """Equal values are found, NULL by `isnull`, a part of the text by `contains`."""
    job, other = JobFactory.create(payload={"n": 1}), JobFactory.create(payload=None)

    assert list(Job.objects.filter(payload={"n": 1})) == [job]
    assert list(Job.objects.filter(payload__isnull=True)) == [other]
    assert list(Job.objects.filter(payload__contains='"n": 1')) == [job]
    assert Job.objects.values_list("payload", flat=True).get(pk=job.pk) == {"n": 1}


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("how", ["json", "python"])
def test_fixtures_keep_values(value: Any, how: str) -> None:
    """`dumpdata` and `loaddata` give back the same value."""
    job = JobFactory.create(payload=value)
    dumped = serializers.serialize(how, [job])
    job.delete()

    for loaded in serializers.deserialize(how, dumped):
        loaded.save()

    assert repr(Job.objects.get().payload) == repr(value)
