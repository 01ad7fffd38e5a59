"""The package itself: lazy names, the app's configuration."""

import pytest
from django.apps import apps

import django_tasks_seq
from django_tasks_seq.apps import TasksSeqConfig


def test_a_name_that_is_not_there_is_an_attribute_error():
    """Lazy names do not turn a typing error into something else."""
    with pytest.raises(AttributeError, match="has no attribute 'TaskSequenze'"):
        _ = django_tasks_seq.TaskSequenze


def test_names_of_the_settings_are_loaded_when_asked_for():
    """A lazy name is the object of its module."""
    from django_tasks_seq.conf import TasksSeqSettings

    assert django_tasks_seq.TasksSeqSettings is TasksSeqSettings


def test_the_executor_is_its_module():
    """`from django_tasks_seq import executor` gives the module of functions."""
    import django_tasks_seq.executor as module

    assert django_tasks_seq.executor is module
    assert set(django_tasks_seq.__all__) <= set(dir(django_tasks_seq))


def test_submodules_are_not_hidden_by_exports():
    """No export has the name of a module, but `executor`, which is one."""
    from pathlib import Path

    modules = {path.stem for path in Path(django_tasks_seq.__file__).parent.iterdir()}

    assert modules & set(django_tasks_seq.__all__) == {"executor"}


def test_the_apps_label_is_final():
    """Label and key type enter table names, permissions and URLs."""
    config = apps.get_app_config("django_tasks_seq")

    assert isinstance(config, TasksSeqConfig)
    assert config.label == "django_tasks_seq"
    assert config.default_auto_field == "django.db.models.BigAutoField"
    assert str(config.verbose_name) == "Task sequences"


def test_sequences_are_found_when_the_apps_are_ready():
    """The test app's `tasks_sequences` module was imported by `ready()`."""
    from django_tasks_seq.registry import sequences
    from tests.testapp import tasks_sequences

    declared = {
        value.name
        for value in vars(tasks_sequences).values()
        if isinstance(value, django_tasks_seq.TaskSequence)
    }
    assert declared
    assert declared <= {sequence.name for sequence in sequences()}
