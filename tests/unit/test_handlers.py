"""Handlers: which one serves a sequence, and how it is built."""

import asyncio
import pickle
from dataclasses import dataclass
from typing import Any

import pytest

from django_tasks_seq.exceptions import CannotInject, ConfigurationError
from django_tasks_seq.handlers import (
    UNCHANGED,
    BaseErrorHandler,
    BaseStartTaskHandler,
    BaseSuccessHandler,
    Complete,
    RetryJob,
    RetryTask,
    error_handler_for,
    handler_due_for,
    start_handler_for,
    success_handler_for,
)
from django_tasks_seq.sequences import TaskSequence


class Alert(BaseErrorHandler):
    def handle_error(self, error, context):
        return ("alert", error, context)


class Shout(BaseErrorHandler):
    async def handle_error(self, error, context):
        return ("shout", error, context)


class Mark(BaseSuccessHandler):
    def handle_success(self, result, context):
        return ("mark", result, context)


class Queue(BaseStartTaskHandler):
    def handle_start(self, job_id, task_id, payload):
        return None


class Broker:
    pass


@dataclass
class Box:
    """Compares by value, so it has no hash."""

    name: str

    def handle_error(self, error, context):
        return self


class Injected(BaseStartTaskHandler):
    def __init__(self, broker: Broker):
        self.broker = broker

    def handle_start(self, job_id, task_id, payload):
        return None


def resolve(kind):
    return kind()


def call(adapter, *args):
    """What the handler returns, built without a resolver."""
    assert adapter is not None
    return adapter.build(None)(*args)


def sequence(**handlers):
    return TaskSequence("fulfil", [("only", print)], **handlers)


def test_a_sequence_without_handlers_uses_the_settings(settings):
    """The defaults of the settings serve where nothing is declared."""
    settings.TASKS_SEQ = {
        "ERROR_HANDLER": f"{__name__}.Alert",
        "SUCCESS_HANDLER": Mark,
        "START_TASK_HANDLER": Queue,
    }

    assert call(error_handler_for(sequence()), "e", "c") == ("alert", "e", "c")
    assert call(success_handler_for(sequence()), "r", "c") == ("mark", "r", "c")
    assert isinstance(start_handler_for(sequence()), Queue)
    assert call(error_handler_for(None), "e", "c") == ("alert", "e", "c")
    assert isinstance(start_handler_for(), Queue)


def test_a_sequences_own_handler_replaces_the_default(settings):
    """What is declared wins, be it a class, a path, an object or a function."""
    settings.TASKS_SEQ = {"ERROR_HANDLER": Alert, "SUCCESS_HANDLER": Mark}

    def noted(result):
        return ("noted", result)

    own = sequence(error_handler=f"{__name__}.Shout", success_handler=noted)

    assert asyncio.run(call(error_handler_for(own), "e", "c")) == ("shout", "e", "c")
    assert call(success_handler_for(own), "r", "c") == ("noted", "r")


def test_there_may_be_none(settings):
    """Without declaration and setting nobody is called."""
    settings.TASKS_SEQ = {}

    assert error_handler_for(sequence()) is None
    assert success_handler_for(None) is None


def test_a_start_handler_is_one_instance_a_process(settings):
    """It is built once, with its constructor arguments injected."""
    settings.TASKS_SEQ = {"RESOLVER": resolve}
    own = sequence(start_task_handler=f"{__name__}.Injected")

    first: Any = start_handler_for(own)

    assert isinstance(first.broker, Broker)
    assert start_handler_for(own) is first


def test_a_start_handler_may_be_an_object(settings):
    """An instance is used as it is."""
    queue = Queue()

    assert start_handler_for(sequence(start_task_handler=queue)) is queue


def test_handlers_need_not_be_hashable(settings):
    """Objects that compare by value, as dataclasses do, are kept by identity."""
    settings.TASKS_SEQ = {}
    first, second = Box("a"), Box("a")
    one, other = sequence(error_handler=first), sequence(error_handler=second)

    assert call(error_handler_for(one), "e", "c") is first
    assert call(error_handler_for(other), "e", "c") is second
    assert error_handler_for(one) is error_handler_for(one)


@pytest.mark.parametrize("kind", ["success", "error"])
def test_a_handler_is_due_where_there_is_one(settings, kind):
    """A broken path counts as a handler, so that the failure to load it is recorded."""
    settings.TASKS_SEQ = {}
    broken = sequence(**{f"{kind}_handler": "nowhere.Handler"})

    assert handler_due_for(sequence(), kind) == ""
    assert handler_due_for(sequence(error_handler=Alert, success_handler=Mark), kind) == kind
    assert handler_due_for(broken, kind) == kind


def test_shipped_start_handlers_are_loaded_when_asked_for():
    """The package gives them by name, from a module that is imported late."""
    from django_tasks_seq import handlers
    from django_tasks_seq.handlers.start import WorkerStartTaskHandler

    assert handlers.WorkerStartTaskHandler is WorkerStartTaskHandler


def test_a_start_handler_nobody_can_build_is_explained(settings):
    """Without a resolver its arguments are missing."""
    settings.TASKS_SEQ = {}

    with pytest.raises(CannotInject, match="Injected needs the constructor argument 'broker'"):
        start_handler_for(sequence(start_task_handler=Injected))


def test_paths_to_something_else_are_explained(settings):
    """A path that leads to no handler says so."""
    settings.TASKS_SEQ = {
        "ERROR_HANDLER": f"{__name__}.Broker",
        "START_TASK_HANDLER": f"{__name__}.Broker",
        "SUCCESS_HANDLER": f"{__name__}.Marc",
    }

    with pytest.raises(ConfigurationError, match="Broker is a class without a method"):
        error_handler_for(None)
    with pytest.raises(ConfigurationError, match="is no start handler"):
        start_handler_for()
    with pytest.raises(ConfigurationError, match=r"Did you mean 'Mark'\?"):
        success_handler_for(None)


def test_handlers_carry_their_jobs_unless_they_say_otherwise():
    """Only a handler that leaves jobs to workers declares `carried = False`."""
    assert Queue.carried is True


def test_verdicts_are_values():
    """Verdicts compare by value; a RetryTask without payload leaves it unchanged."""
    assert RetryTask() == RetryTask(UNCHANGED) != RetryTask(None)
    assert Complete() == Complete(None)
    assert RetryJob() == RetryJob()
    assert repr(RetryTask()) == "RetryTask(payload=UNCHANGED)"
    assert pickle.loads(pickle.dumps(UNCHANGED)) is UNCHANGED


@pytest.mark.parametrize("base", [BaseErrorHandler, BaseSuccessHandler, BaseStartTaskHandler])
def test_bases_are_abstract(base):
    """A base alone handles nothing."""
    with pytest.raises(TypeError, match="abstract"):
        base()


def test_the_package_lists_and_refuses_names():
    """`handlers` names what it ships and has nothing else."""
    from django_tasks_seq import handlers

    assert set(handlers.__all__) <= set(dir(handlers))
    with pytest.raises(AttributeError, match="has no attribute 'CarrierPigeon'"):
        _ = handlers.CarrierPigeon


class Gate:
    """Something that a scope would close."""


class OnlyOutside:
    """A resolver whose scope may not be entered."""

    def __call__(self, cls: type) -> Any:
        return cls()

    def scope(self) -> Any:
        raise AssertionError("a scope was entered")


class Gated(BaseStartTaskHandler):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def handle_start(self, job_id: Any, task_id: str, payload: Any) -> None:
        pass


def test_a_start_handler_is_built_outside_any_scope(settings):
    """It serves the whole process, and what a scope gives is closed with the scope."""
    settings.TASKS_SEQ = {"RESOLVER": OnlyOutside(), "START_TASK_HANDLER": Gated}

    handler = start_handler_for()

    assert isinstance(handler, Gated)
    assert isinstance(handler.gate, Gate)
