"""JSON rules: a value comes back as it went in, or is refused with the path of what is wrong."""

import datetime as dt
import enum
import json
import uuid
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db.models import TextChoices
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given, settings as hypothesis_settings, strategies as st

from django_tasks_seq.exceptions import InvalidPayload, TaskResultError
from django_tasks_seq.payloads import (
    MASK,
    decode,
    encode,
    encode_and_decode,
    encode_result,
    preview,
    redact,
)
from tests.testapp.models import Order

ROUND_TRIPS = [
    {"order_id": 7, "lines": [{"sku": "A", "price": "4.90"}], "ok": True, "note": None},
    [],
    {},
    "",
    0,
    False,
    -0.0,
    1e16,
    2**70,
    0.1,
    "ä\u2028🐢\x7f\x01",
    "\\u0000 is text, NUL is not here",
    {"": {"ä": [[[[]]]]}},
    OrderedDict(b=1, a=2),
    ["["] * 300,
    "[{" * 500,
]


@pytest.mark.parametrize("value", ROUND_TRIPS, ids=repr)
def test_what_is_json_comes_back_as_it_was(value):
    """Values, types, order of keys and signs of zero survive."""
    text, decoded = encode_and_decode(value)

    assert repr(decode(text)) == repr(decoded)
    assert decoded == value
    if type(value) is dict:
        assert list(decoded) == list(value)


def test_order_and_zero_are_kept_verbatim():
    """The text is what `json` writes, so that no database can change it."""
    assert encode({"b": -0.0, "a": 1e16}) == '{"b": -0.0, "a": 1e+16}'
    assert encode("ä") == '"ä"'


def test_none_is_no_text():
    """None is SQL NULL, in both directions."""
    assert encode(None) is None
    assert encode_and_decode(None) == (None, None)
    assert encode_result(None, "a") == (None, None)
    assert decode(None) is None


class Colour(TextChoices):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


def test_members_that_are_text_or_numbers_come_back_as_these():
    """A TextChoices member, an IntEnum or safe text equals what the next task receives."""
    value = {"colour": Colour.RED, "level": Level.HIGH, Colour.RED: mark_safe("<b>")}

    _, decoded = encode_and_decode(value)

    assert decoded == value == {"colour": "red", "level": 3, "red": "<b>"}
    assert [type(item) for item in decoded.values()] == [str, int, str]


@dataclass
class Address:
    city: str


class Plain(enum.Enum):
    ONE = 1


class Anything:
    pass


async def coroutine():
    return None


REFUSED = [
    (
        {"lines": [1, 2, {"price": Decimal("4.90")}]},
        "payload['lines'][2]['price']",
        (
            "payload['lines'][2]['price'] is Decimal('4.90'), which JSON cannot hold."
            " Pass str(price) or use a dataclass payload. Nothing was started."
        ),
    ),
    (
        {"at": dt.datetime(2026, 11, 24, 6, 30)},  # noqa: DTZ001
        "payload['at']",
        (
            "payload['at'] is datetime.datetime(2026, 11, 24, 6, 30), which JSON cannot hold."
            " Pass at.isoformat(). Nothing was started."
        ),
    ),
    ({"day": dt.date(2026, 1, 2)}, "payload['day']", "Pass day.isoformat()."),
    ({"at": dt.time(6)}, "payload['at']", "Pass at.isoformat()."),
    ({"lasts": dt.timedelta(1)}, "payload['lasts']", "Pass lasts.total_seconds()."),
    (uuid.UUID(int=7), "payload", "Pass str(value)."),
    ({"one": Plain.ONE}, "payload['one']", "Pass one.value."),
    (
        [{"tags": {"a"}}],
        "payload[0]['tags']",
        "is {'a'}, which JSON cannot hold. Pass sorted(tags).",
    ),
    ({"raw": b"x"}, "payload['raw']", "Pass raw.decode(), or base64 of it."),
    (
        {"order": Order(pk=7, number="1051")},
        "payload['order']",
        "payload['order'] is an Order, which JSON cannot hold. Pass its key: order.pk.",
    ),
    (
        {"orders": Order.objects.all()},
        "payload['orders']",
        (
            "is a QuerySet, which JSON cannot hold."
            " Pass keys: list(orders.values_list('pk', flat=True))."
        ),
    ),
    (
        {"to": Address("Wien")},
        "payload['to']",
        "Pass dataclasses.asdict(to), or declare payload_type=Address.",
    ),
    (
        {"pdf": ContentFile(b"x", name="a.pdf")},
        "payload['pdf']",
        'is a ContentFile, which JSON cannot hold. Pass JSON data, e.g. {"file": pdf.name}.',
    ),
    ({"label": gettext_lazy("Paid")}, "payload['label']", "Pass str(label)."),
    (
        {"x y": Anything()},
        "payload['x y']",
        (
            "payload['x y'] is an Anything, which JSON cannot hold."
            " Pass plain data: dict, list, str, int, float, bool or None."
        ),
    ),
    (
        {"pair": (1, 2)},
        "payload['pair']",
        "payload['pair'] is a tuple, which JSON would turn into a list. Pass list(pair).",
    ),
    (
        {"prices": {1: "4.90"}},
        "payload['prices']",
        "payload['prices'] has the key 1 (int), and keys of JSON are text. Pass keys as str.",
    ),
    ({"a": {None: 1}}, "payload['a']", "has the key None (NoneType)"),
    ({"a": {(1, 2): 1}}, "payload['a']", "has the key (1, 2) (tuple)"),
    ({"a": {1: 1, "1": 2}}, "payload['a']", "has the key 1 (int)"),
    ({"a": float("nan")}, "payload['a']", "is nan, which JSON cannot hold."),
    ({"a": [float("-inf")]}, "payload['a'][0]", "is -inf, which JSON cannot hold."),
    ({"a": "x\0y"}, "payload['a']", "contains the character NUL, which databases refuse."),
    ({"a\0": 1}, "payload key 'a\\x00'", "contains the character NUL"),
    (
        {"a": "x\ud800"},
        "payload['a']",
        "contains half a character (lone surrogate '\\ud800') at 1.",
    ),
    ({"\udfff": 1}, "payload key '\\udfff'", "contains half a character"),
    ({"a": 10**5000}, "payload['a']", "is an int of more than 4300 digits. Pass it as text."),
]


@pytest.mark.parametrize(("value", "path", "message"), REFUSED, ids=[p for _, p, _ in REFUSED])
def test_what_is_no_json_is_refused_with_path_and_remedy(value, path, message):
    """The message says where, what, and what to pass instead."""
    with pytest.raises(InvalidPayload) as caught:
        encode(value, ending="Nothing was started.")

    assert caught.value.path == path
    assert message in str(caught.value)
    assert str(caught.value).endswith(" Nothing was started.")


def test_an_awaitable_is_recognised():
    """What was not awaited is told as that."""
    forgotten = coroutine()

    with pytest.raises(
        InvalidPayload, match=r"is a coroutine.*declare the function with async def"
    ):
        encode(forgotten)
    forgotten.close()


def nested(depth, kind):
    value: Any = []
    for _ in range(depth - 1):
        value = kind(value)
    return value


@pytest.mark.parametrize("kind", [lambda v: [v], lambda v: {"a": v}])
def test_depth_is_limited_to_200_levels(kind):
    """200 levels are accepted, 201 and 100,000 refused."""
    assert encode(nested(200, kind)) is not None
    for depth in (201, 100_000):
        with pytest.raises(InvalidPayload, match="is nested more than 200 levels deep"):
            encode(nested(depth, kind))


def test_a_circle_is_refused():
    """A value that contains itself is named at the place where it does."""
    value: Any = {"a": [1]}
    value["a"].append(value)

    with pytest.raises(InvalidPayload) as caught:
        encode(value)

    assert str(caught.value).startswith("payload['a'][1] contains itself.")


def test_size_is_limited_in_bytes():
    """The limit counts bytes of UTF-8, and is allowed itself."""
    assert encode("ä" * 5, max_bytes=12) == '"äääää"'
    with pytest.raises(InvalidPayload) as caught:
        encode("ä" * 5, max_bytes=11)

    assert str(caught.value).startswith(
        "payload is 12 bytes of JSON; MAX_PAYLOAD_BYTES allows 11."
        " Pass the id or the path of stored data."
    )


def test_size_names_the_heaviest_part():
    """The path of the part that makes it too big stands in the message."""
    value = {"order": 7, "lines": [{"photo": "x" * 2_000_000, "sku": "A"}, {"sku": "B"}]}

    with pytest.raises(InvalidPayload) as caught:
        encode(value)

    assert "most of it in payload['lines'][0]['photo']; MAX_PAYLOAD_BYTES allows 1,048,576" in str(
        caught.value
    )
    assert caught.value.path == "payload['lines'][0]['photo']"


def test_size_limit_comes_from_the_settings(settings):
    """`MAX_PAYLOAD_BYTES` is the default limit."""
    settings.TASKS_SEQ = {"MAX_PAYLOAD_BYTES": 5}

    assert encode("abc") == '"abc"'
    with pytest.raises(InvalidPayload):
        encode("abcd")


def test_the_name_leads_the_path():
    """What is no payload is named as what it is."""
    with pytest.raises(InvalidPayload, match=r"cursor\['at'\] is datetime.date"):
        encode({"at": dt.date(2026, 1, 1)}, name="cursor")


class Liar(dict):
    """Equal to nothing, not even to itself."""

    __hash__ = None

    def __eq__(self, other):
        return False


class Thrower(dict):
    __hash__ = None

    def __eq__(self, other):
        raise ValueError("never compare me")


def test_values_that_cannot_be_compared_are_refused():
    """What cannot be proven to survive is refused, without a path further than itself."""
    with pytest.raises(InvalidPayload, match="payload would be changed by JSON"):
        encode(Liar(a=1))
    with pytest.raises(InvalidPayload, match="never compare me"):
        encode(Thrower(a=1))


class Unfriendly:
    """Raises whatever is asked of it, its class as well."""

    def __getattribute__(self, name):
        raise RuntimeError("never look at me")

    def __repr__(self):
        raise RuntimeError("nor show me")

    def __bool__(self):
        raise RuntimeError("nor decide")


class Undecided(dict):
    """Whether it is equal to anything cannot be told."""

    __hash__ = None

    def __eq__(self, other):
        return Unfriendly()


@pytest.mark.parametrize("make", [Unfriendly, lambda: [Unfriendly()], lambda: Undecided(a=1)])
def test_a_value_that_raises_when_it_is_looked_at_is_refused(make):
    """The one exception type, whatever its class does; so is a result, which is then final."""
    with pytest.raises(InvalidPayload, match="payload"):
        encode(make())
    with pytest.raises(TaskResultError, match="'charge' returned what cannot be stored"):
        encode_result(make(), "charge")


def test_a_long_key_is_cut_in_the_path():
    """Paths stay readable, whatever the keys."""
    with pytest.raises(InvalidPayload) as caught:
        encode({"k" * 500: {1}})

    assert len(caught.value.path) < 80


# --- results


def test_a_result_says_that_the_task_ran():
    """The message is the one of the design: which task, what it returned, what happened."""
    with pytest.raises(TaskResultError) as caught:
        encode_result(ContentFile(b"x", name="a.pdf"), "make_invoice_pdf")

    assert str(caught.value) == (
        "'make_invoice_pdf' returned a ContentFile."
        ' Return JSON data, e.g. {"file": value.name}.'
        " The task ran; it is marked failed and will not be retried."
    )
    assert (caught.value.task_id, caught.value.path) == ("make_invoice_pdf", "result")


def test_a_part_of_a_result_is_named_by_its_path():
    """Deeper values are told by path."""
    with pytest.raises(TaskResultError) as caught:
        encode_result({"price": Decimal("4.90")}, "charge")

    assert str(caught.value).startswith(
        "'charge' returned what cannot be stored: result['price'] is Decimal('4.90'), which JSON"
        " cannot hold. Return str(price)"
    )
    assert caught.value.path == "result['price']"


def test_a_good_result_is_encoded_and_read_back():
    """The text to store and the value for the next task come from one call."""
    value = {"n": [1]}

    text, decoded = encode_result(value, "a", max_bytes=100)

    assert (text, decoded) == ('{"n": [1]}', {"n": [1]})
    assert decoded["n"] is not value["n"]


# --- anything at all

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), inner
        )
    ),
    max_leaves=20,
)
evil_leaves = (
    st.floats()
    | st.text(st.characters())
    | st.tuples(st.integers())
    | st.decimals()
    | st.binary(max_size=3)
    | st.sets(st.integers(), max_size=2)
    | st.dates()
    | st.uuids()
    | st.complex_numbers()
    | st.dictionaries(st.integers() | st.none() | st.booleans(), st.none(), max_size=2)
)
any_values = st.recursive(
    json_values | evil_leaves,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


@given(json_values)
@hypothesis_settings(max_examples=100, deadline=None)
def test_any_json_value_survives(value):
    """Whatever is JSON data comes back equal, with the same types, and is valid JSON elsewhere."""
    text, decoded = encode_and_decode(value)

    assert repr(decoded) == repr(value)
    if text is not None:
        text.encode()
        assert "\0" not in text
        assert json.loads(text, parse_constant=pytest.fail) == value


@given(any_values)
@hypothesis_settings(max_examples=200, deadline=None)
def test_any_value_survives_or_is_refused(value):
    """Nothing changes silently and nothing fails with another error."""
    with suppress(InvalidPayload):
        text, decoded = encode_and_decode(value)

        assert decoded == value
        assert repr(decode(text)) == repr(decoded)


# --- masking and previews


def test_keys_are_masked_at_any_depth_without_regard_to_case():
    """Patterns match whole keys; the value itself is left as it was."""
    value = {"Card_Number": "4111", "lines": [{"TOKEN": {"a": 1}, "sku": "token"}], "cards": []}
    patterns = ["card*", "token"]

    assert redact(value, patterns) == {
        "Card_Number": MASK,
        "lines": [{"TOKEN": MASK, "sku": "token"}],
        "cards": MASK,
    }
    assert value["Card_Number"] == "4111"


def test_without_patterns_nothing_is_masked():
    """An empty list of keys masks nothing, plain values have no keys."""
    assert redact({"token": 1}, []) == {"token": 1}
    assert redact("token", ["token"]) == "token"
    assert redact(None, ["token"]) is None


def test_the_default_keys_mask_what_is_usually_secret(settings):
    """Keys of the defaults match as parts of longer names."""
    from django_tasks_seq.conf import Config

    value = dict.fromkeys(["password", "api_token", "X-Api_Key", "card_no", "order_id"], "v")

    assert [key for key, item in redact(value, Config().redact_keys).items() if item == "v"] == [
        "order_id"
    ]


def test_a_preview_is_short_and_on_one_line():
    """The beginning of the JSON, cut with an ellipsis."""
    assert preview({"a": 1}, 20) == '{"a": 1}'
    assert preview(None, 20) == "null"
    assert preview({"a": "x\ny" * 100}, 12) == '{"a": "x\\ny…'
    assert len(preview(list(range(100_000)), 50)) == 50


def test_a_preview_shows_what_is_no_json_as_it_is():
    """Values that cannot be stored are shown by their repr."""
    assert preview({"price": Decimal("4.90")}) == '{"price": "Decimal(\'4.90\')"}'
