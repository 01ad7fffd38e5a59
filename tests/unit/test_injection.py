"""Injection: annotated constructor arguments by RESOLVER, and errors that say what to do."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import pytest

from django_tasks_seq.exceptions import CannotInject
from django_tasks_seq.injection import instantiate, scope, unresolvable

if TYPE_CHECKING:
    from decimal import Decimal as Invisible


class Gateway:
    pass


class Bank:
    pass


def resolve(kind):
    return kind()


class Plain:
    pass


class Charge:
    def __init__(self, gateway: Gateway, bank: Bank):
        self.gateway = gateway
        self.bank = bank


class Flexible:
    def __init__(
        self,
        gateway: Gateway | None,
        bank: Annotated[Bank, "the second"],
        /,
        *rest: object,
        other: Gateway | None = None,
        attempts: int = 3,
        label="none",
        **options: object,
    ):
        self.parts = gateway, bank, other, attempts, label


@dataclass
class Declared:
    gateway: Gateway
    retries: int = 2


class OnlyForTypeCheckers:
    def __init__(self, price: Invisible):
        self.price = price


class WithDefault:
    def __init__(self, price: Invisible = 5):  # type: ignore[assignment]
        self.price = price


class Bare:
    def __init__(self, gateway):
        self.gateway = gateway


def test_a_class_without_arguments_needs_nothing():
    """No resolver is asked for a plain class."""
    assert isinstance(instantiate(Plain, None), Plain)


def test_annotated_arguments_are_resolved():
    """Each annotated argument is what the resolver makes of its type."""
    made = instantiate(Charge, resolve)

    assert isinstance(made.gateway, Gateway)
    assert isinstance(made.bank, Bank)


def test_all_kinds_of_parameters_are_served():
    """Optional, Annotated, positional-only and keyword-only; builtin types with a default are kept."""
    gateway, bank, other, attempts, label = instantiate(Flexible, resolve).parts

    assert [type(part) for part in (gateway, bank, other)] == [Gateway, Bank, Gateway]
    assert (attempts, label) == (3, "none")


def test_dataclasses_are_injected():
    """The generated constructor of a dataclass is read like a written one."""
    made = instantiate(Declared, resolve)

    assert isinstance(made.gateway, Gateway)
    assert made.retries == 2


def test_without_a_resolver_defaults_are_used():
    """What has a default needs no resolver."""
    assert instantiate(WithDefault, None).price == 5


def test_an_annotation_out_of_sight_falls_back_to_its_default():
    """A type that only type checkers see cannot be asked for."""
    assert instantiate(WithDefault, resolve).price == 5


@pytest.mark.parametrize(
    ("cls", "resolver", "parameter", "remedy"),
    [
        (Charge, None, "gateway", "Set TASKS_SEQ['RESOLVER']"),
        (Bare, resolve, "gateway", "Annotate it"),
        (OnlyForTypeCheckers, resolve, "price", "Import it outside `if TYPE_CHECKING`."),
    ],
)
def test_an_argument_nobody_provides_is_explained(cls, resolver, parameter, remedy):
    """Class, argument and remedy are named."""
    with pytest.raises(CannotInject) as caught:
        instantiate(cls, resolver)

    assert str(caught.value).startswith(f"{cls.__name__} needs the constructor argument")
    assert remedy in str(caught.value)
    assert (caught.value.cls, caught.value.parameter) == (cls, parameter)


def test_what_the_resolver_raises_is_passed_on():
    """A failing resolver fails the attempt with its own error."""

    def failing(kind):
        raise LookupError(kind.__name__)

    with pytest.raises(LookupError, match="Gateway"):
        instantiate(Charge, failing)


def test_a_union_of_several_is_asked_for_as_it_is():
    """Only `X | None` is asked for as X."""

    class Either:
        def __init__(self, part: Gateway | Bank):
            self.part = part

    assert instantiate(Either, lambda kind: kind).part == (Gateway | Bank)


def test_constructors_written_in_c_are_called_without_arguments():
    """A builtin without a readable signature gets no arguments."""
    assert instantiate(type("Dict", (dict,), {}), resolve) == {}


@pytest.mark.parametrize(
    ("cls", "with_resolver", "missing"),
    [
        (Plain, False, []),
        (Charge, False, ["gateway", "bank"]),
        (Charge, True, []),
        (Bare, True, ["gateway"]),
        (OnlyForTypeCheckers, True, ["price"]),
        (Declared, False, ["gateway"]),
    ],
)
def test_what_would_be_missing_is_known_beforehand(cls, with_resolver, missing):
    """The system check asks without building anything."""
    assert unresolvable(cls, with_resolver=with_resolver) == missing


def test_without_a_resolver_the_scope_is_empty(settings):
    """`scope()` gives None when RESOLVER is not set."""
    settings.TASKS_SEQ = {}

    with scope() as resolver:
        assert resolver is None


def test_a_callable_is_the_resolver_itself(settings):
    """A resolver without `scope()` is used as it is."""
    settings.TASKS_SEQ = {"RESOLVER": f"{__name__}.resolve"}

    with scope() as resolver:
        assert resolver is resolve


class Container:
    """A resolver with scopes, as injection containers have them."""

    def __init__(self):
        self.log = []

    @contextmanager
    def scope(self):
        self.log.append("open")
        try:
            yield resolve
        finally:
            self.log.append("closed")


def test_a_scope_is_entered_around_each_attempt(settings):
    """What the resolver opens for an attempt is closed after it, also when the attempt fails."""
    container = Container()
    settings.TASKS_SEQ = {"RESOLVER": container}

    def fail():
        with scope() as resolver:
            assert resolver is resolve
            assert container.log == ["open"]
            raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        fail()

    assert container.log == ["open", "closed"]


def test_a_class_as_resolver_is_built_once(settings):
    """A container class of the settings is instantiated for the process."""
    settings.TASKS_SEQ = {"RESOLVER": f"{__name__}.Container"}

    with scope() as resolver:
        assert resolver is resolve
