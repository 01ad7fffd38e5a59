"""`TASKS_SEQ`: one reader, typed, reset by `override_settings`; paths are explained when wrong."""

import sys
import types

import pytest
from django.test import override_settings

from django_tasks_seq import conf
from django_tasks_seq.conf import KNOWN_KEYS, Config, get_config, load, settings_problems
from django_tasks_seq.conf_rules import RULES
from django_tasks_seq.exceptions import ConfigurationError
from django_tasks_seq.loggers import StdlibTaskLogger


def test_without_settings_the_defaults_hold(settings):
    """An empty, or missing, `TASKS_SEQ` is the default configuration."""
    settings.TASKS_SEQ = {}
    assert get_config() == Config()

    del settings.TASKS_SEQ
    assert get_config() == Config()
    assert settings_problems() == []


def test_settings_are_read_once_and_anew_when_overridden(settings):
    """The configuration is one object until a test overrides the setting."""
    settings.TASKS_SEQ = {"LEASE_SECONDS": 5, "REDACT_KEYS": ["pin"], "ADMIN": {"LIVE_SECONDS": 9}}
    first = get_config()

    assert first is get_config()
    assert (first.lease_seconds, first.redact_keys) == (5, ("pin",))
    assert first.admin == {"LIVE_SECONDS": 9, "SUBJECT_LINKS": True, "COUNT_LIMIT": 100_000}

    with override_settings(TASKS_SEQ={"LEASE_SECONDS": 7}, DEBUG=True):
        assert get_config().lease_seconds == 7
    assert get_config().lease_seconds == 5


def test_another_setting_does_not_forget_the_configuration(settings):
    """Overriding what is not ours keeps the cached configuration."""
    first = get_config()
    settings.SECRET_KEY = "other"

    assert get_config() is first


def test_an_unknown_key_is_a_check_error_and_nothing_else(settings):
    """A mistyped key is named with a suggestion, and does not stop the process."""
    settings.TASKS_SEQ = {"MAX_ATEMPTS": 3, "ADMIN": {"LIVE_SECOND": 3}, "COLOUR": "red"}

    messages = [f"{problem.message} {problem.hint}" for problem in settings_problems()]

    assert messages == [
        "TASKS_SEQ has an unknown key 'MAX_ATEMPTS'. Did you mean 'MAX_ATTEMPTS'?",
        "TASKS_SEQ has an unknown key 'COLOUR'. Its keys: " + ", ".join(KNOWN_KEYS) + ".",
        "TASKS_SEQ['ADMIN'] has an unknown key 'LIVE_SECOND'. Did you mean 'LIVE_SECONDS'?",
    ]
    assert get_config().max_attempts == 1


WRONG = [
    ("LOGGER", None),
    ("CACHE_HANDLER", 7),
    ("START_TASK_HANDLER", None),
    ("ERROR_HANDLER", {}),
    ("SUCCESS_HANDLER", []),
    ("RESOLVER", 1.5),
    ("DATABASE", ""),
    ("DATABASE", None),
    ("DEFAULT_QUEUE", "  "),
    ("DEFAULT_QUEUE", "q" * 101),
    ("MAX_ATTEMPTS", 0),
    ("MAX_ATTEMPTS", True),
    ("MAX_ATTEMPTS", 2.0),
    ("TIMEOUT", 0),
    ("TIMEOUT", "60"),
    ("STOP_GRACE", -1),
    ("STOP_GRACE", None),
    ("LEASE_SECONDS", 0.5),
    ("LEASE_SECONDS", float("nan")),
    ("LEASE_SECONDS", float("inf")),
    ("POLL_INTERVAL", 0),
    ("NOTIFY", "yes"),
    ("NOTIFY", None),
    ("MAX_CRASHES", 0),
    ("HANDLER_ATTEMPTS", 0),
    ("RESEND_SECONDS", 0),
    ("UNKNOWN_TASK_GRACE", -1),
    ("MAX_PAYLOAD_BYTES", "1 MB"),
    ("RETENTION_DAYS", -1),
    ("REDACT_KEYS", "password"),
    ("REDACT_KEYS", [1]),
    ("ADMIN", "dark"),
    ("ADMIN", {"LIVE_SECONDS": 0}),
    ("ADMIN", {"SUBJECT_LINKS": "no"}),
    ("ADMIN", {"COUNT_LIMIT": 0}),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_value_that_cannot_be_used_is_refused(settings, key, value):
    """The key, the value and what is allowed are named, by the check and by the reader."""
    settings.TASKS_SEQ = {key: value}

    (problem,) = settings_problems()
    with pytest.raises(ConfigurationError) as caught:
        get_config()

    assert problem.kind == "value"
    assert problem.message.startswith(f"TASKS_SEQ[{key!r}] is {value!r}"[:40])
    assert problem.hint.endswith(".")
    assert str(caught.value) == f"{problem.message} {problem.hint}"


RIGHT = [
    ("LOGGER", StdlibTaskLogger),
    ("ERROR_HANDLER", None),
    ("RESOLVER", lambda kind: kind()),
    ("TIMEOUT", None),
    ("TIMEOUT", 0.2),
    ("STOP_GRACE", 0),
    ("NOTIFY", False),
    ("RETENTION_DAYS", None),
    ("RETENTION_DAYS", 0.5),
    ("REDACT_KEYS", ()),
]


@pytest.mark.parametrize(("key", "value"), RIGHT)
def test_values_at_the_edge_are_accepted(settings, key, value):
    """What the reference allows is read as it is."""
    settings.TASKS_SEQ = {key: value}

    assert settings_problems() == []
    assert getattr(get_config(), key.lower()) == value


def test_what_is_no_dict_is_refused(settings):
    """`TASKS_SEQ = [...]` is named as what it is."""
    settings.TASKS_SEQ = ["LOGGER"]

    (problem,) = settings_problems()

    assert problem.message == "TASKS_SEQ must be a dict, not ['LOGGER']."
    with pytest.raises(ConfigurationError, match="must be a dict"):
        get_config()


def test_every_key_is_documented_typed_and_checked():
    """Defaults, the TypedDict and the rules know the same keys."""
    assert set(conf.TasksSeqSettings.__annotations__) == set(KNOWN_KEYS)
    assert set(RULES) == set(KNOWN_KEYS)


def test_load_returns_objects_as_they_are():
    """Only text is imported."""
    assert load(StdlibTaskLogger) is StdlibTaskLogger
    assert load("django_tasks_seq.loggers.StdlibTaskLogger") is StdlibTaskLogger
    assert load(None) is None


@pytest.fixture
def broken_module():
    """`broken_module(code)` makes a module whose attribute access raises."""

    class Broken(types.ModuleType):
        def __getattr__(self, name):
            raise RuntimeError("not now")

    sys.modules["broken_for_tests"] = Broken("broken_for_tests")
    yield "broken_for_tests"
    del sys.modules["broken_for_tests"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("dumps", "'dumps' is no dotted path. Write 'package.module.Name'."),
        ("jsn.dumps", "'jsn.dumps' cannot be imported: there is no module 'jsn'."),
        ("json.no.dumps", "'json.no.dumps' cannot be imported: there is no module 'json.no'."),
        (
            "json.dmps",
            "'json.dmps' cannot be imported: json has no 'dmps'. Did you mean 'dumps'?",
        ),
        ("json.xyzzy", "'json.xyzzy' cannot be imported: json has no 'xyzzy'."),
    ],
)
def test_a_path_that_cannot_be_imported_is_explained(path, message):
    """Module or name: the message says which is missing, and what was probably meant."""
    with pytest.raises(ConfigurationError) as caught:
        load(path)

    assert str(caught.value) == message


def test_the_setting_is_named_in_front():
    """`what` says whose path it is."""
    with pytest.raises(ConfigurationError) as caught:
        load("json.dmps", what="TASKS_SEQ['LOGGER']")

    assert str(caught.value).startswith("TASKS_SEQ['LOGGER'] 'json.dmps' cannot be imported: ")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('no licence')", "raised RuntimeError: no licence."),
        ("import not_there_at_all", "raised ModuleNotFoundError: No module named"),
        ("def (", "raised SyntaxError:"),
    ],
)
def test_a_module_that_fails_is_not_called_missing(tmp_path, monkeypatch, code, reason):
    """An error inside the module is told as what it is, with its cause."""
    (tmp_path / "failing_for_tests.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ConfigurationError) as caught:
        load("failing_for_tests.Name")

    assert f"failing_for_tests {reason}" in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_name_that_is_loaded_when_asked_for_may_fail(broken_module):
    """A module-level `__getattr__` that raises is told like a failing module."""
    with pytest.raises(ConfigurationError, match="raised RuntimeError: not now"):
        load(f"{broken_module}.Name")


class Store:
    made = 0

    def __init__(self):
        type(self).made += 1


def test_an_instance_is_built_once_until_settings_change(settings):
    """Classes of the settings are instantiated once a process; objects are used as they are."""
    Store.made = 0
    settings.TASKS_SEQ = {"CACHE_HANDLER": f"{__name__}.Store"}

    first = conf.get_cache_handler()
    assert isinstance(first, Store)
    assert conf.get_cache_handler() is first
    assert Store.made == 1

    settings.TASKS_SEQ = {"CACHE_HANDLER": first}
    assert conf.get_cache_handler() is first
    assert Store.made == 1


def test_the_default_logger_is_stdlib(settings):
    """`get_logger` gives the configured logger."""
    settings.TASKS_SEQ = {}

    assert isinstance(conf.get_logger(), StdlibTaskLogger)
    assert conf.get_resolver() is None
