"""System checks: each id with its message and hint, and silence when all is well."""

from typing import Any

import pytest
from django.core import checks as django_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections

from django_tasks_seq import checks
from django_tasks_seq.handlers import BaseErrorHandler, BaseStartTaskHandler
from django_tasks_seq.registry import isolated, register_sequence
from django_tasks_seq.sequences import TaskSequence, TaskSpec

NOTHING = ()


class Store:
    """A third party's cache handler: neither claims nor atomic tasks."""

    supports_claims = False
    supports_atomic_tasks = False

    def get(self, key):
        return None

    def set(self, key, value):
        return None

    def delete(self, key):
        return None


class FullStore(Store):
    supports_claims = True
    supports_atomic_tasks = True


class LeaveToWorker(BaseStartTaskHandler):
    carried = False

    def handle_start(self, job_id, task_id, payload):
        return None


class Carry(BaseStartTaskHandler):
    def handle_start(self, job_id, task_id, payload):
        return None


class Alert(BaseErrorHandler):
    def handle_error(self, error, context):
        return None


class Gateway:
    pass


class Charge:
    def __init__(self, gateway: Gateway, retries=3):
        self.gateway = gateway

    def execute(self, payload):
        return payload


class Bare:
    def __init__(self, gateway, bank):
        pass

    def execute(self, payload):
        return payload


def resolve(kind):
    return kind()


HERE = __name__
WELL = {"CACHE_HANDLER": FullStore, "START_TASK_HANDLER": LeaveToWorker}


@pytest.fixture(autouse=True)
def _empty_registry():
    with isolated(empty=True):
        yield


def found(check):
    """(id without our label, message, hint) of each message of one check."""
    every: Any = django_checks.registry.registry.get_checks(include_deployment_checks=True)
    run = next(item for item in every if item.__name__ == check and checks.APP in item.tags)
    return [
        (message.id.removeprefix("django_tasks_seq."), message.msg, message.hint)
        for message in run(app_configs=None, databases=None)
    ]


def names():
    return [name for name in vars(checks) if name.startswith("check_")]


@pytest.mark.parametrize("check", names())
def test_all_is_quiet_when_all_is_well(settings, check):
    """A sound project gets no message from any check."""
    settings.TASKS_SEQ = WELL | {"RESOLVER": resolve, "ERROR_HANDLER": f"{HERE}.Alert"}
    settings.DEBUG = False
    register_sequence(TaskSequence("fulfil", [("charge", Charge)], error_handler=Alert))
    quiet = found(check)

    if check == "check_production" and connections["default"].vendor == "sqlite":
        quiet = [message for message in quiet if "SQLite" not in message[1]]
    assert quiet == []


def test_e001_unknown_key(settings):
    """E001 names the key and the one that was meant."""
    settings.TASKS_SEQ = {"MAX_ATEMPTS": 3}

    assert found("check_settings") == [
        ("E001", "TASKS_SEQ has an unknown key 'MAX_ATEMPTS'.", "Did you mean 'MAX_ATTEMPTS'?")
    ]


def test_e002_wrong_value(settings):
    """E002 names the value and what is allowed, and the other checks wait for it."""
    settings.TASKS_SEQ = {"LEASE_SECONDS": "60"}

    assert found("check_settings") == [
        (
            "E002",
            "TASKS_SEQ['LEASE_SECONDS'] is '60', which cannot be used.",
            "Give a number of seconds, at least 1.",
        )
    ]
    assert found("check_paths") == found("check_database") == found("check_store") == []


def test_e004_path_that_cannot_be_imported(settings):
    """E004 says what is missing and what was meant."""
    settings.TASKS_SEQ = WELL | {
        "LOGGER": "django_tasks_seq.loggers.StdlibTaskLoger",
        "ERROR_HANDLER": f"{HERE}.Alerd",
        "RESOLVER": "nowhere.resolve",
    }

    assert found("check_paths") == [
        (
            "E004",
            (
                "TASKS_SEQ['LOGGER'] 'django_tasks_seq.loggers.StdlibTaskLoger' cannot be imported:"
                " django_tasks_seq.loggers has no 'StdlibTaskLoger'."
            ),
            "Did you mean 'StdlibTaskLogger'?",
        ),
        (
            "E004",
            f"TASKS_SEQ['ERROR_HANDLER'] '{HERE}.Alerd' cannot be imported: {HERE} has no 'Alerd'.",
            "Did you mean 'Alert'?",
        ),
        (
            "E004",
            (
                "TASKS_SEQ['RESOLVER'] 'nowhere.resolve' cannot be imported:"
                " there is no module 'nowhere'."
            ),
            None,
        ),
    ]
    assert found("check_injection") == []


def test_e004_path_to_something_else(settings):
    """E004 also names what can be imported and is of the wrong kind."""
    settings.TASKS_SEQ = {
        "CACHE_HANDLER": f"{HERE}.Gateway",
        "START_TASK_HANDLER": f"{HERE}.Alert",
        "SUCCESS_HANDLER": f"{HERE}.Alert",
        "RESOLVER": f"{HERE}.NOTHING",
    }

    messages = found("check_paths")

    assert [number for number, _, _ in messages] == ["E004"] * 4
    assert [text.partition(" is ")[2] for _, text, _ in messages][:2] == [
        f"<class '{HERE}.Gateway'>, which has no get, set, delete.",
        f"<class '{HERE}.Alert'>, no start handler.",
    ]
    assert messages[2][1:] == (
        (
            "TASKS_SEQ['SUCCESS_HANDLER']: the handler Alert is a class without a method"
            " 'handle_success'."
        ),
        "Give a class or an object with handle_success().",
    )
    assert messages[3][1:] == (
        "TASKS_SEQ['RESOLVER'] is (), which cannot be called.",
        "Give a callable (type) -> object.",
    )


def test_e004_handler_of_a_sequence(settings):
    """E004 names sequence and role of a dotted path that leads nowhere."""
    settings.TASKS_SEQ = WELL
    register_sequence(
        TaskSequence(
            "fulfil",
            [("only", print)],
            error_handler=f"{HERE}.Alerd",
            success_handler=f"{HERE}.Alert",
            start_task_handler=f"{HERE}.Alert",
        )
    )

    assert found("check_sequence_handlers") == [
        (
            "E004",
            (
                f"Sequence 'fulfil': error_handler '{HERE}.Alerd' cannot be imported:"
                f" {HERE} has no 'Alerd'."
            ),
            "Did you mean 'Alert'?",
        ),
        (
            "E004",
            (
                "Sequence 'fulfil': success_handler: the handler Alert is a class without a method"
                " 'handle_success'."
            ),
            "Give a class or an object with handle_success().",
        ),
        (
            "E004",
            f"Sequence 'fulfil': start_task_handler is <class '{HERE}.Alert'>, no start handler.",
            "Derive it from BaseStartTaskHandler.",
        ),
    ]


class Elsewhere:
    """A router that sends everything to a second database."""

    def db_for_write(self, model, **hints):
        return "jobs"


class NoMigrations:
    def allow_migrate(self, db, app_label, **hints):
        return False


def test_e006_router_that_sends_jobs_elsewhere(settings):
    """E006 names the model, both aliases and the router that helps."""
    settings.TASKS_SEQ = WELL
    settings.DATABASE_ROUTERS = [Elsewhere()]

    messages = found("check_routers")

    assert (
        "E006",
        "Job belongs to 'default', but a database router writes it to 'jobs'.",
        "Put 'django_tasks_seq.routers.JobRouter' first in DATABASE_ROUTERS.",
    ) in messages


def test_e006_router_that_does_not_migrate(settings):
    """E006 also says when the tables would not be made."""
    settings.TASKS_SEQ = WELL
    settings.DATABASE_ROUTERS = [NoMigrations()]

    assert "Job belongs to 'default', but a database router does not migrate it there." in [
        text for _, text, _ in found("check_routers")
    ]


def test_a_router_without_opinion_is_no_problem(settings):
    """A second alias needs no router to be written to: the rows stay where they are."""
    settings.TASKS_SEQ = WELL | {"DATABASE": "jobs"}
    settings.DATABASE_ROUTERS = []

    assert found("check_routers") == []


def test_e007_use_tz(settings):
    """E007 without time zones."""
    settings.USE_TZ = False

    assert found("check_time_zone") == [
        (
            "E007",
            "USE_TZ is False, and due times of jobs need time zones.",
            "Set USE_TZ = True; existing naive times of other apps need a look.",
        )
    ]


class Pretend:
    """A connection of another vendor."""

    def __init__(self, vendor, options=None):
        self.vendor = vendor
        self.settings_dict = {"OPTIONS": options or {}}


@pytest.fixture
def pretend(monkeypatch):
    def pretend(*args):
        monkeypatch.setattr(checks, "connections", {"default": Pretend(*args)})

    return pretend


@pytest.mark.parametrize("is_psycopg3", [True, False])
def test_e008_psycopg2(settings, pretend, monkeypatch, is_psycopg3):
    """E008 when PostgreSQL is spoken to through psycopg2."""
    any_psycopg = pytest.importorskip("django.db.backends.postgresql.psycopg_any")
    monkeypatch.setattr(any_psycopg, "is_psycopg3", is_psycopg3)
    settings.TASKS_SEQ = WELL
    pretend("postgresql")

    expected = [
        (
            "E008",
            "Jobs on PostgreSQL need psycopg 3, and psycopg2 is what is installed.",
            'Run: pip install "psycopg[binary]"; Django prefers it once it is there.',
        )
    ]
    assert found("check_database") == ([] if is_psycopg3 else expected)


def test_e009_unknown_alias(settings):
    """E009 names the aliases there are; the router check keeps quiet."""
    settings.TASKS_SEQ = WELL | {"DATABASE": "job"}

    assert found("check_database") == [
        (
            "E009",
            "TASKS_SEQ['DATABASE'] is 'job', which DATABASES does not have.",
            "Did you mean 'jobs'?",
        )
    ]
    assert found("check_routers") == []

    settings.TASKS_SEQ = WELL | {"DATABASE": "xyzzy"}
    assert found("check_database")[0][2] == "Aliases in DATABASES: default, jobs."


def test_e010_constructor_arguments_without_resolver(settings):
    """E010 names class, task, argument and the setting that helps."""
    settings.TASKS_SEQ = WELL
    register_sequence(TaskSequence("fulfil", [("charge", Charge), ("plain", print)]))

    assert found("check_injection") == [
        (
            "E010",
            "Charge, task 'charge' of 'fulfil', needs the argument gateway, which nobody provides.",
            "Set TASKS_SEQ['RESOLVER'] to a callable (type) -> object, or give a default.",
        )
    ]


def test_e010_constructor_arguments_without_annotation(settings):
    """E010 also when there is a resolver that cannot be asked."""
    settings.TASKS_SEQ = WELL | {"RESOLVER": resolve}
    register_sequence(TaskSequence("fulfil", [("bare", Bare), ("charge", Charge)]))

    assert found("check_injection") == [
        (
            "E010",
            (
                "Bare, task 'bare' of 'fulfil', needs the arguments gateway, bank,"
                " which the resolver cannot be asked for."
            ),
            "Annotate with a class that is importable at run time, or give a default.",
        )
    ]


class NeedyHandler(Alert):
    def __init__(self, gateway: Gateway):
        pass


def test_e010_handlers_are_built_too(settings):
    """E010 looks at handlers of settings and sequences, whether class or path."""
    settings.TASKS_SEQ = WELL | {"ERROR_HANDLER": NeedyHandler}
    register_sequence(TaskSequence("f", [("a", print)], error_handler=f"{HERE}.NeedyHandler"))

    assert [text.partition(", needs")[0] for _, text, _ in found("check_injection")] == [
        "NeedyHandler, TASKS_SEQ['ERROR_HANDLER']",
        "NeedyHandler, error_handler of 'f'",
    ]


def test_e011_store_without_claims(settings):
    """E011 when jobs are left to workers in a store they cannot claim from."""
    settings.TASKS_SEQ = {"CACHE_HANDLER": f"{HERE}.Store", "START_TASK_HANDLER": LeaveToWorker}
    register_sequence(TaskSequence("a", [("only", print)], start_task_handler=LeaveToWorker))
    register_sequence(TaskSequence("b", [("only", print)], start_task_handler=Carry))
    remedy = "Use ModelTaskCacheHandler, or a start handler that carries its jobs."

    assert found("check_store") == [
        (
            "E011",
            (
                "TASKS_SEQ['START_TASK_HANDLER'] leaves jobs to workers,"
                " which cannot claim them from Store."
            ),
            remedy,
        ),
        (
            "E011",
            "Sequence 'a' leaves jobs to workers, which cannot claim them from Store.",
            remedy,
        ),
    ]


def test_a_store_without_claims_serves_carried_jobs(settings):
    """No E011 when the start handler carries its jobs; a store object is named by its class."""
    settings.TASKS_SEQ = {"CACHE_HANDLER": Store(), "START_TASK_HANDLER": Carry}

    assert found("check_store") == []


def test_e012_atomic_tasks_in_a_store_that_cannot(settings):
    """E012 names the sequence and its atomic tasks."""
    settings.TASKS_SEQ = {"CACHE_HANDLER": Store(), "START_TASK_HANDLER": Carry}
    register_sequence(TaskSequence("a", [TaskSpec("x", print, atomic=True), ("y", print)]))

    assert found("check_store") == [
        (
            "E012",
            "'a' has atomic tasks (x); Store cannot keep them.",
            "Use ModelTaskCacheHandler, or leave atomic=True out.",
        )
    ]


def test_a_store_that_cannot_be_imported_is_left_to_e004(settings):
    """Nothing is said of the abilities of what cannot be imported."""
    settings.TASKS_SEQ = {"CACHE_HANDLER": "nowhere.Store"}

    assert found("check_store") == []


def test_w001_jobs_kept_for_ever(settings):
    """W001 at deploy, without a retention."""
    settings.TASKS_SEQ = {"RETENTION_DAYS": None}

    assert found("check_retention") == [
        (
            "W001",
            "TASKS_SEQ['RETENTION_DAYS'] is None: finished jobs are kept for ever.",
            "Set a number of days, so that the tables stop growing.",
        )
    ]


def test_w002_debug_and_sqlite(settings, pretend):
    """W002 at deploy, for DEBUG and for SQLite."""
    settings.TASKS_SEQ = WELL
    settings.DEBUG = True
    pretend("sqlite")

    assert found("check_production") == [
        ("W002", "DEBUG is on: workers keep the SQL they run in memory.", "Set DEBUG = False."),
        (
            "W002",
            "Jobs are kept in SQLite ('default'), which one machine alone can write.",
            "Use PostgreSQL for several workers or machines; silence this if one is enough.",
        ),
    ]


@pytest.mark.parametrize(
    ("options", "warns"),
    [
        ({}, True),
        ({"transaction_mode": "DEFERRED", "timeout": 20}, True),
        ({"transaction_mode": "IMMEDIATE"}, True),
        ({"transaction_mode": "IMMEDIATE", "timeout": 5}, True),
        ({"transaction_mode": "immediate", "timeout": 10}, False),
    ],
)
def test_w003_sqlite_that_will_be_locked(settings, pretend, options, warns):
    """W003 unless SQLite takes its write lock at once and waits for it."""
    settings.TASKS_SEQ = WELL
    pretend("sqlite", options)

    messages = found("check_database")

    assert bool(messages) is warns
    for number, text, hint in messages:
        assert number == "W003"
        assert text == (
            "SQLite 'default' will answer 'database is locked' when two processes write."
        )
        assert "'transaction_mode': 'IMMEDIATE', 'timeout': 20" in hint


def test_another_database_needs_no_word(settings, pretend):
    """MySQL and its kind get no message here."""
    settings.TASKS_SEQ = WELL
    pretend("mysql")

    assert found("check_database") == []


def test_deploy_checks_run_at_deploy_alone():
    """W001 and W002 are left to `check --deploy`."""
    registry: Any = django_checks.registry.registry
    always = {check.__name__ for check in registry.registered_checks if checks.APP in check.tags}
    deploy = {check.__name__ for check in registry.deployment_checks if checks.APP in check.tags}

    assert deploy == {"check_retention", "check_production"}
    assert always | deploy == {*names(), "check_server"}


def test_every_id_is_documented():
    """docs/reference/checks.md explains each id that the checks can give."""
    import inspect
    import re
    from pathlib import Path

    source = inspect.getsource(checks)
    ids = {f"E{int(n):03}" for n in re.findall(r"_error\(\s*(\d+)", source)}
    ids |= {f"W{int(n):03}" for n in re.findall(r"_warning\(\s*(\d+)", source)} | {"E002"}
    text = (Path(__file__).parents[2] / "docs/reference/checks.md").read_text()

    assert len(ids) >= 12
    assert [number for number in sorted(ids) if f"django_tasks_seq.{number}" not in text] == []


def test_check_itself_reports_the_database(settings):
    """`manage.py check` runs the checks of aliases and routers without being given a database."""
    settings.TASKS_SEQ = {"DATABASE": "defualt"}

    with pytest.raises(SystemCheckError, match=r"E009.*\n.*Did you mean 'default'"):
        call_command("check")
