"""`payload_type`: what a sequence wants is enforced when a job starts."""

from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from django_tasks_seq import InvalidPayload, executor
from django_tasks_seq.models import Job
from django_tasks_seq.testing import drain
from tests.database.conftest import Declare
from tests.database.working import Seen

pytestmark = pytest.mark.django_db


@dataclass
class AsDataclass:
    order_id: int
    gift: bool = False


class AsTypedDict(TypedDict):
    order_id: int
    gift: bool


class AsModel(pydantic.BaseModel):
    order_id: int
    gift: bool = False


class AsStruct(msgspec.Struct):
    order_id: int
    gift: bool = False


ALL = [AsDataclass, AsTypedDict, AsModel, AsStruct]


@pytest.mark.parametrize("kind", ALL)
def test_an_instance_becomes_plain_data(declare: Declare, kind: Any) -> None:
    """An instance of the type is stored, and received by the first task, as JSON data."""
    task = Seen()
    declare(task, payload_type=kind)

    executor.start_sequence("probe", kind(order_id=7, gift=True))
    drain()

    assert Job.objects.get().payload == {"order_id": 7, "gift": True} == task.payloads[0]


@pytest.mark.parametrize("kind", [AsDataclass, AsModel, AsStruct])
def test_defaults_are_filled_in(declare: Declare, kind: Any) -> None:
    """A dict may leave out what has a default; the row has it."""
    declare(Seen(), payload_type=kind)

    executor.start_sequence("probe", {"order_id": 7})

    assert Job.objects.get().payload == {"order_id": 7, "gift": False}


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    "payload", [None, {}, {"order_id": "x", "gift": True}, {"oder_id": 7, "gift": True}, [7]]
)
def test_another_shape_is_refused_before_any_sql(
    declare: Declare, kind: Any, payload: Any, django_assert_num_queries: Any
) -> None:
    """Missing, unknown and wrong values are refused; nothing is written."""
    declare(Seen(), payload_type=kind)

    with django_assert_num_queries(0), pytest.raises(InvalidPayload, match="Nothing was started"):
        executor.start_sequence("probe", payload)


def test_the_message_names_both_keys(declare: Declare) -> None:
    """A misspelt key is named together with the one that was meant."""
    declare(Seen(), payload_type=AsDataclass)

    with pytest.raises(InvalidPayload) as refused:
        executor.start_sequence("probe", {"oder_id": 7})

    assert str(refused.value) == (
        "probe: 'order_id' is missing; 'oder_id' is unknown (did you mean 'order_id'?)."
        " Nothing was started."
    )


def test_start_many_enforces_it_for_each(declare: Declare, django_assert_num_queries: Any) -> None:
    """One payload of the wrong shape among many refuses them all."""
    declare(Seen(), payload_type=AsDataclass)

    with django_assert_num_queries(0), pytest.raises(InvalidPayload, match="'order_id'"):
        executor.start_many("probe", [{"order_id": 1}, {"order_id": "x"}])
