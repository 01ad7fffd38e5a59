"""The registry: names of sequences, and what they mean."""

import sys
import threading

import pytest

import tests.testapp
from django_tasks_seq import registry
from django_tasks_seq.exceptions import (
    SequenceAlreadyRegistered,
    SequenceDeclarationError,
    UnknownSequence,
)
from django_tasks_seq.registry import (
    autodiscover,
    find_sequence,
    get_sequence,
    isolated,
    register_sequence,
    sequences,
)
from django_tasks_seq.sequences import TaskSequence
from tests.testapp import tasks_sequences


@pytest.fixture(autouse=True)
def _empty_registry():
    with isolated(empty=True):
        yield


def sequence(name="fulfil_order"):
    return TaskSequence(name, [("only", print)])


def test_a_registered_sequence_is_found_by_name_and_by_itself():
    """`register_sequence` returns its argument, and all look-ups lead to it."""
    declared = register_sequence(sequence())

    assert get_sequence("fulfil_order") is declared
    assert get_sequence(declared) is declared
    assert find_sequence("fulfil_order") is declared
    assert find_sequence("nothing") is None


def test_sequences_are_listed_by_name():
    """All of them, in alphabetical order."""
    for name in ("b", "a", "c"):
        register_sequence(sequence(name))

    assert [item.name for item in sequences()] == ["a", "b", "c"]


def test_the_same_object_twice_is_fine():
    """Registering again what is registered changes nothing."""
    declared = register_sequence(sequence())

    assert register_sequence(declared) is declared


def test_a_doubled_name_is_refused_with_both_places():
    """The first stays, the error knows where both were declared."""
    first = register_sequence(sequence())
    second = TaskSequence("fulfil_order", [("only", print)])

    with pytest.raises(SequenceAlreadyRegistered) as caught:
        register_sequence(second)

    assert (caught.value.first, caught.value.second) == (first.declared_at, second.declared_at)
    assert first.declared_at != second.declared_at
    assert get_sequence("fulfil_order") is first


def test_what_is_no_sequence_is_refused():
    """A list of tasks, or a name, cannot be registered."""
    with pytest.raises(SequenceDeclarationError, match="takes a TaskSequence, not 'fulfil_order'"):
        register_sequence("fulfil_order")  # type: ignore[arg-type]


def test_an_unknown_name_is_suggested():
    """A near miss names what was meant."""
    register_sequence(sequence())

    with pytest.raises(UnknownSequence, match=r"Did you mean 'fulfil_order'\?"):
        get_sequence("fulfil_ordr")


def test_an_unregistered_object_is_refused_before_a_job_exists():
    """No worker could find it, so it is not accepted; nor is its namesake taken for it."""
    with pytest.raises(UnknownSequence, match="is not registered, so no worker could find it"):
        get_sequence(sequence())

    register_sequence(sequence())
    with pytest.raises(UnknownSequence, match="is not registered"):
        get_sequence(sequence())


def test_what_is_no_name_is_unknown():
    """A list, or None, is no sequence."""
    with pytest.raises(UnknownSequence, match="No sequence named"):
        get_sequence(["fulfil_order"])  # type: ignore[arg-type]


def test_of_many_threads_one_registers():
    """Threads that register one name at the same moment agree on one sequence."""
    candidates = [sequence() for _ in range(16)]
    barrier = threading.Barrier(len(candidates))
    refused = []

    def register(candidate):
        barrier.wait(10)
        try:
            register_sequence(candidate)
        except SequenceAlreadyRegistered:
            refused.append(candidate)

    threads = [threading.Thread(target=register, args=[item]) for item in candidates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(refused) == len(candidates) - 1
    assert get_sequence("fulfil_order") not in refused


def test_isolation_restores_what_was_there():
    """What a test registers is forgotten, also when the test fails."""
    before = register_sequence(sequence("before"))

    def fail():
        with isolated():
            assert find_sequence("before") is before
            register_sequence(sequence("inside"))
            raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        fail()

    assert sequences() == (before,)


def test_autodiscovery_imports_the_module_of_every_app(monkeypatch):
    """Each installed app's `tasks_sequences` module is imported."""
    # Both places where an import leaves a module are put back, or later tests would meet
    # sequences that are declared twice and registered once.
    monkeypatch.setattr(tests.testapp, "tasks_sequences", tasks_sequences)
    monkeypatch.delitem(sys.modules, tasks_sequences.__name__)

    autodiscover()

    assert sys.modules[tasks_sequences.__name__] is not tasks_sequences
    assert sequences() != ()
    assert registry.MODULE == "tasks_sequences"
