"""`payload_type`: what a job may be started with, for every kind of type."""

import datetime as dt
import enum
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NewType, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from django_tasks_seq.exceptions import InvalidPayload
from django_tasks_seq.payload_types import check_payload_type, supports
from django_tasks_seq.payloads import encode
from django_tasks_seq.sequences import TaskSequence


class Speed(enum.Enum):
    FAST = "fast"
    SLOW = "slow"


@dataclass
class Line:
    sku: str
    price: Decimal = Decimal("1.00")


@dataclass
class OrderData:
    order_id: int
    lines: list[Line] = field(default_factory=list)
    note: str | None = None


class LineDict(TypedDict):
    sku: str


class OrderDict(TypedDict):
    order_id: int
    lines: NotRequired[list[LineDict]]


class OrderModel(pydantic.BaseModel):
    order_id: int
    at: dt.date | None = None


class OrderStruct(msgspec.Struct):
    order_id: int
    lines: list[LineDict] = []


def check(payload_type, payload):
    sequence = TaskSequence("fulfil_order", [("only", print)], payload_type=payload_type)
    return check_payload_type(sequence, payload)


def refusal(payload_type, payload):
    with pytest.raises(InvalidPayload) as caught:
        check(payload_type, payload)
    text = str(caught.value)
    assert text.startswith("fulfil_order: ")
    assert text.endswith(". Nothing was started.")
    return text.removeprefix("fulfil_order: ").removesuffix(". Nothing was started.")


def test_without_a_type_the_payload_is_as_it_is():
    """Nothing declared, nothing checked."""
    value = object()

    assert check(None, value) is value


every_type = pytest.mark.parametrize(
    "payload_type", [OrderData, OrderDict, OrderModel, OrderStruct], ids=lambda kind: kind.__name__
)


@every_type
def test_all_missing_and_unknown_keys_are_named_at_once(payload_type):
    """The message is the one of the design, whatever the kind of type."""
    assert refusal(payload_type, {"oder_id": 7}) == (
        "'order_id' is missing; 'oder_id' is unknown (did you mean 'order_id'?)"
    )


@every_type
@pytest.mark.parametrize(("payload", "given"), [(None, "None"), ([7], "of type list")])
def test_what_is_no_dict_is_refused(payload_type, payload, given):
    """The keys that a payload has are named."""
    assert refusal(payload_type, payload).startswith(
        f"payload is {given}, not a dict with order_id"
    )


@every_type
def test_a_good_dict_passes(payload_type):
    """Plain JSON data that fits is returned, defaults filled in, and can be stored."""
    plain = check(payload_type, {"order_id": 7})

    assert plain["order_id"] == 7
    assert encode(plain) is not None


@every_type
def test_a_wrong_value_is_named_by_its_path(payload_type):
    """A text that is no number is refused where it stands."""
    assert refusal(payload_type, {"order_id": "seven"}).startswith("payload['order_id'] is ")


@pytest.mark.parametrize(
    ("payload_type", "instance", "plain"),
    [
        (
            OrderData,
            OrderData(7, [Line("A", Decimal("4.90"))]),
            {"order_id": 7, "lines": [{"sku": "A", "price": "4.90"}], "note": None},
        ),
        (
            OrderModel,
            OrderModel(order_id=7, at=dt.date(2026, 1, 2)),
            {"order_id": 7, "at": "2026-01-02"},
        ),
        (OrderStruct, OrderStruct(7), {"order_id": 7, "lines": []}),
    ],
)
def test_an_instance_becomes_plain_data(payload_type, instance, plain):
    """Whoever has an instance passes it; the task receives a dict."""
    assert check(payload_type, instance) == plain


def test_defaults_of_a_dataclass_are_filled_in():
    """A dict and an instance give the same plain data."""
    assert check(OrderData, {"order_id": 7, "lines": [{"sku": "A"}]}) == check(
        OrderData, OrderData(7, [Line("A")])
    )


def test_nested_keys_are_checked_too():
    """A mistyped key deep inside is named with its path, for dataclasses and TypedDicts."""
    lines = {"order_id": 7, "lines": [{"sku": "A"}, {"suk": "B"}]}
    expected = "payload['lines'][1]: 'sku' is missing; 'suk' is unknown (did you mean 'sku'?)"

    assert refusal(OrderData, lines) == expected
    assert refusal(OrderDict, lines) == expected


Special = NewType("Special", int)


@dataclass
class Everything:
    price: Decimal | None = None
    at: dt.datetime | None = None
    day: dt.date | None = None
    time: dt.time | None = None
    lasts: dt.timedelta | None = None
    key: uuid.UUID | None = None
    speed: Speed | None = None
    kind: Literal["a", "b"] | None = None
    number: int | None = None
    ratio: float | None = None
    flag: bool | None = None
    text: str | None = None
    plain_list: list | None = None
    plain_dict: dict | None = None
    mapping: dict[str, int] | None = None
    pair: tuple[int, ...] | None = None
    nothing: None = None
    anything: Any = None
    thing: object = None
    special: Special | None = None
    one_of: int | str | None = None
    line: LineDict | None = None


GOOD = [
    ("price", "4.90", "4.90"),
    ("price", 5, "5"),
    ("price", 4.9, "4.9"),
    ("price", Decimal(5), "5"),
    ("at", "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05+00:00"),
    ("day", dt.date(2026, 1, 2), "2026-01-02"),
    ("time", "03:04:05", "03:04:05"),
    ("lasts", 90, 90.0),
    ("key", "0192d3a0-0000-7000-8000-000000000000", "0192d3a0-0000-7000-8000-000000000000"),
    ("speed", "fast", "fast"),
    ("speed", Speed.SLOW, "slow"),
    ("kind", "a", "a"),
    ("number", 3, 3),
    ("ratio", 3, 3),
    ("ratio", 0.5, 0.5),
    ("flag", True, True),
    ("text", "x", "x"),
    ("plain_list", [1, "a"], [1, "a"]),
    ("plain_dict", {"a": [1]}, {"a": [1]}),
    ("mapping", {"a": 1}, {"a": 1}),
    ("pair", (1, 2), [1, 2]),
    ("nothing", None, None),
    ("anything", {"a": (1,)}, {"a": [1]}),
    ("thing", "x", "x"),
    ("special", 5, 5),
    ("one_of", "x", "x"),
    ("one_of", 5, 5),
    ("line", {"sku": "A"}, {"sku": "A"}),
]


@pytest.mark.parametrize(("name", "value", "plain"), GOOD)
def test_values_are_read_as_annotated_and_written_as_json(name, value, plain):
    """Dates, Decimals, UUIDs and Enums may be given as such or as their text."""
    assert check(Everything, {name: value})[name] == plain


WRONG = [
    ("price", "cheap", "is 'cheap', not a Decimal"),
    ("at", "soon", "is 'soon', not a datetime"),
    ("day", 5, "is 5, not a date"),
    ("lasts", "long", "is 'long', not a timedelta"),
    ("key", 7, "is 7, not an UUID"),
    ("speed", "warp", "is 'warp', not a Speed"),
    ("kind", "c", "is 'c', not one of 'a', 'b'"),
    ("number", True, "is True, not an int"),
    ("number", 1.0, "is 1.0, not an int"),
    ("ratio", "x", "is 'x', not a float"),
    ("flag", 1, "is 1, not a bool"),
    ("text", 1, "is 1, not a str"),
    ("plain_list", "x", "is 'x', not a list"),
    ("plain_dict", [], "is [], not a dict"),
    ("mapping", {"a": "x"}, "['a'] is 'x', not an int"),
    ("mapping", 5, "is 5, not a dict"),
    ("nothing", 5, "is 5, not a NoneType"),
    ("one_of", 1.5, "is 1.5, not an int"),
    ("line", {}, ": 'sku' is missing"),
    ("line", "A", " is of type str, not a dict with sku"),
]


@pytest.mark.parametrize(("name", "value", "problem"), WRONG)
def test_values_that_do_not_fit_are_refused(name, value, problem):
    """Path, value and what was declared are named."""
    text = refusal(Everything, {name: value})

    assert text.startswith(f"payload['{name}']")
    assert problem in text


@dataclass
class Checked:
    amount: int
    doubled: int = field(init=False, default=0)

    def __post_init__(self):
        if self.amount < 0:
            raise ValueError("amount below 0")
        self.doubled = 2 * self.amount


def test_checks_of_the_dataclass_itself_count():
    """What `__post_init__` refuses is an invalid payload; what it computes is kept."""
    assert refusal(Checked, {"amount": -1}) == "payload is refused by Checked: amount below 0"
    assert check(Checked, {"amount": 2}) == {"amount": 2, "doubled": 4}
    assert "'doubled' is unknown" in refusal(Checked, {"amount": 2, "doubled": 4})


# --- pydantic


class Aliased(pydantic.BaseModel):
    order_id: int = pydantic.Field(validation_alias="orderId")


class ByPath(pydantic.BaseModel):
    order_id: int = pydantic.Field(validation_alias=pydantic.AliasPath("order", "id"))


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    order_id: int


class Lenient(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="ignore")
    order_id: int


class Nested(pydantic.BaseModel):
    lines: list[OrderModel]


def test_pydantic_aliases_are_known():
    """A validation alias is the key that is asked for."""
    assert check(Aliased, {"orderId": 7}) == {"order_id": 7}
    assert refusal(Aliased, {"order": 7}).startswith("'orderId' is missing; 'order' is unknown")
    assert check(ByPath, {"order": {"id": 7}}) == {"order_id": 7}
    assert refusal(ByPath, {}) == "payload['order']['id'] is refused: Field required"


def test_pydantic_models_that_speak_of_extra_keys_are_obeyed():
    """`extra="allow"` keeps, `extra="ignore"` drops what is not declared."""
    assert check(Open, {"order_id": 7, "more": 1}) == {"order_id": 7, "more": 1}
    assert check(Lenient, {"order_id": 7, "more": 1}) == {"order_id": 7}


def test_pydantic_paths_are_written_as_ours():
    """A value deep inside is named as payload['lines'][0]['order_id']."""
    assert refusal(Nested, {"lines": [{"order_id": "x"}]}).startswith(
        "payload['lines'][0]['order_id'] is refused: Input should be a valid integer"
    )


# --- msgspec


class Renamed(msgspec.Struct, rename="camel"):
    order_id: int
    lines: list[Line] = []


def test_msgspec_paths_are_written_as_ours():
    """A value deep inside is named as payload['lines'][0]['sku'], names as they are encoded."""
    assert check(Renamed, {"orderId": 7, "lines": [{"sku": "A"}]})["orderId"] == 7
    assert refusal(Renamed, {"orderId": 7, "lines": [{"sku": 5}]}) == (
        "payload['lines'][0]['sku'] is refused: Expected `str`, got `int`"
    )
    assert refusal(Renamed, {"orderId": "x"}) == (
        "payload['orderId'] is refused: Expected `int`, got `str`"
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (OrderData, True),
        (OrderDict, True),
        (OrderModel, True),
        (OrderStruct, True),
        (dict, False),
        (OrderData(1), False),
        (None, False),
        ("OrderData", False),
    ],
)
def test_what_can_be_a_payload_type(kind, expected):
    """Classes of the four kinds, and nothing else."""
    assert supports(kind) is expected
