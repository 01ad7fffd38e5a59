"""System checks: what is configured or declared wrongly is found at deploy, not in the first job.

docs/reference/checks.md has cause and remedy of each id. What only shows at run time (dead workers,
unknown tasks in stored jobs) is not looked for here, and no check asks a database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning as CheckWarning, register
from django.db import connections, router
from django.db.models import Model

from .conf import get_config, get_resolver, load, settings_problems
from .conf_rules import SETTING
from .exceptions import ConfigurationError, SequenceDeclarationError
from .handlers.base import BaseStartTaskHandler
from .injection import unresolvable
from .registry import sequences
from .sequences import HANDLER_METHODS, TaskSequence
from .tasks import adapt
from .text import listing, suggest

APP: Final = "django_tasks_seq"
Check = Callable[[], Iterator[CheckMessage]]

# What each path of the settings must lead to: methods that are called on it.
_METHODS: Final = {
    "LOGGER": ("set_context", "debug", "info", "warning", "error"),
    "CACHE_HANDLER": ("get", "set", "delete"),
}
_ROLES: Final = {"ERROR_HANDLER": "handle_error", "SUCCESS_HANDLER": "handle_success"}


def _check(
    tag: str, *, deploy: bool = False, needs_config: bool = True
) -> Callable[[Check], Check]:
    """Register a check; one that needs the settings is silent while E002 says they are broken."""

    def decorate(check: Check) -> Check:
        def run(**_kwargs: Any) -> list[CheckMessage]:
            if needs_config and any(problem.kind == "value" for problem in settings_problems()):
                return []
            return list(check())

        run.__name__ = run.__qualname__ = check.__name__
        register(tag, APP, deploy=deploy)(run)
        return check

    return decorate


def _error(number: int, message: str, hint: str = "") -> Error:
    return Error(message, hint=hint or None, id=f"{APP}.E{number:03}")


def _warning(number: int, message: str, hint: str) -> CheckWarning:
    return CheckWarning(message, hint=hint, id=f"{APP}.W{number:03}")


@_check(Tags.compatibility, needs_config=False)
def check_settings() -> Iterator[CheckMessage]:
    """E001 unknown key, E002 value that cannot be used."""
    for problem in settings_problems():
        yield _error(1 if problem.kind == "unknown" else 2, problem.message, problem.hint)


@_check(Tags.compatibility)
def check_paths() -> Iterator[CheckMessage]:
    """E004 something of the settings cannot be imported, or is of the wrong kind."""
    config = get_config()
    for key, methods in _METHODS.items():
        yield from _check_methods(f"{SETTING}[{key!r}]", getattr(config, key.lower()), methods)
    yield from _check_start(f"{SETTING}['START_TASK_HANDLER']", config.start_task_handler)
    for key, method in _ROLES.items():
        handler = getattr(config, key.lower())
        yield from _check_handler(f"{SETTING}[{key!r}]", handler, method)
    yield from _check_resolver(config.resolver)


@_check(Tags.compatibility)
def check_sequence_handlers() -> Iterator[CheckMessage]:
    """E004 a handler that a sequence names cannot be imported, or is of the wrong kind."""
    for sequence in sequences():
        for role, method in HANDLER_METHODS.items():
            what, handler = f"Sequence {sequence.name!r}: {role}", getattr(sequence, role)
            if role == "start_task_handler":
                yield from _check_start(what, handler)
            else:
                yield from _check_handler(what, handler, method)


@_check(Tags.compatibility, needs_config=False)
def check_time_zone() -> Iterator[CheckMessage]:
    """E007 without USE_TZ, due times have no time zone."""
    if not settings.USE_TZ:
        yield _error(
            7,
            "USE_TZ is False, and due times of jobs need time zones.",
            "Set USE_TZ = True; existing naive times of other apps need a look.",
        )


@_check(Tags.compatibility)
def check_database() -> Iterator[CheckMessage]:
    """E009 unknown alias, E008 psycopg2, W003 SQLite that will answer "database is locked"."""
    alias = get_config().database
    if alias not in connections:
        known = f"Aliases in DATABASES: {listing(connections)}."
        yield _error(
            9,
            f"{SETTING}['DATABASE'] is {alias!r}, which DATABASES does not have.",
            suggest(alias, connections) or known,
        )
        return
    vendor = connections[alias].vendor
    if vendor == "postgresql":
        yield from _check_psycopg()
    elif vendor == "sqlite":
        yield from _check_sqlite(alias)


@_check(Tags.compatibility)
def check_routers() -> Iterator[CheckMessage]:
    """E006 a database router sends our tables elsewhere than DATABASE says."""
    alias = get_config().database
    if alias not in connections:
        return
    for model in apps.get_app_config(APP).get_models():
        instance = model()
        # A router without an opinion leaves an instance where it is.
        instance._state.db = alias
        wrong = _routed_wrongly(model, instance, alias)
        if wrong:
            yield _error(
                6,
                f"{model.__name__} belongs to {alias!r}, but a database router {wrong}.",
                f"Put '{APP}.routers.JobRouter' first in DATABASE_ROUTERS.",
            )


@_check(Tags.compatibility)
def check_injection() -> Iterator[CheckMessage]:
    """E010 a class needs constructor arguments that nobody provides."""
    try:
        has_resolver = get_resolver() is not None
    except ConfigurationError:  # E004 says it
        return
    for what, cls in _classes():
        names = unresolvable(cls, with_resolver=has_resolver)
        if names:
            yield _cannot_build(what, cls, names, has_resolver=has_resolver)


@_check(Tags.compatibility)
def check_store() -> Iterator[CheckMessage]:
    """E011 jobs for workers in a store without claims, E012 atomic tasks in one without them."""
    store = _loaded(get_config().cache_handler)
    if store is None:
        return
    name = getattr(store, "__name__", type(store).__name__)
    if not getattr(store, "supports_claims", False):
        yield from _check_carried(name)
    if not getattr(store, "supports_atomic_tasks", False):
        yield from _check_atomic(name)


@_check(Tags.security, deploy=True)
def check_retention() -> Iterator[CheckMessage]:
    """W001 jobs are kept for ever."""
    if get_config().retention_days is None:
        yield _warning(
            1,
            f"{SETTING}['RETENTION_DAYS'] is None: finished jobs are kept for ever.",
            "Set a number of days, so that the tables stop growing.",
        )


@_check(Tags.security, deploy=True)
def check_production() -> Iterator[CheckMessage]:
    """W002 DEBUG, or SQLite, in production."""
    if settings.DEBUG:
        yield _warning(
            2, "DEBUG is on: workers keep the SQL they run in memory.", "Set DEBUG = False."
        )
    alias = get_config().database
    if alias in connections and connections[alias].vendor == "sqlite":
        yield _warning(
            2,
            f"Jobs are kept in SQLite ({alias!r}), which one machine alone can write.",
            "Use PostgreSQL for several workers or machines; silence this if one is enough.",
        )


# --- parts of checks


def _routed_wrongly(model: type[Model], instance: Model, alias: str) -> str:
    """What a router does to *model*, "" when it leaves it on *alias*: a replica lags behind claims."""
    written, read = (
        ask(model, instance=instance) for ask in (router.db_for_write, router.db_for_read)
    )
    if written != alias:
        return f"writes it to {written!r}"
    if read != alias:
        return f"reads it from {read!r}"
    return "" if router.allow_migrate_model(alias, model) else "does not migrate it there"


def _load(what: str, value: Any) -> tuple[Any, list[CheckMessage]]:
    try:
        return load(value, what=what), []
    except ConfigurationError as error:
        return None, [_error(4, error.problem, error.hint)]


def _check_methods(what: str, value: Any, methods: Iterable[str]) -> Iterator[CheckMessage]:
    loaded, errors = _load(what, value)
    yield from errors
    missing = [name for name in methods if not callable(getattr(loaded, name, None))]
    if missing and not errors:
        yield _error(
            4,
            f"{what} is {loaded!r:.80}, which has no {listing(missing)}.",
            "Name a class that is derived from the base class of its kind.",
        )


def _check_start(what: str, value: Any) -> Iterator[CheckMessage]:
    loaded, errors = _load(what, value)
    yield from errors
    kind = loaded if isinstance(loaded, type) else type(loaded)
    if loaded is not None and not issubclass(kind, BaseStartTaskHandler):
        problem = f"{what} is {loaded!r:.80}, no start handler."
        yield _error(4, problem, "Derive it from BaseStartTaskHandler.")


def _check_handler(what: str, value: Any, method: str) -> Iterator[CheckMessage]:
    loaded, errors = _load(what, value)
    yield from errors
    if loaded is None:
        return
    try:
        adapt(loaded, method=method, what="handler")
    except SequenceDeclarationError as error:
        yield _error(4, f"{what}: {error}", f"Give a class or an object with {method}().")


def _check_resolver(value: Any) -> Iterator[CheckMessage]:
    what = f"{SETTING}['RESOLVER']"
    loaded, errors = _load(what, value)
    yield from errors
    if loaded is not None and not callable(loaded) and not hasattr(loaded, "scope"):
        problem = f"{what} is {loaded!r:.80}, which cannot be called."
        yield _error(4, problem, "Give a callable (type) -> object.")


def _check_psycopg() -> Iterator[CheckMessage]:
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    if not is_psycopg3:
        yield _error(
            8,
            "Jobs on PostgreSQL need psycopg 3, and psycopg2 is what is installed.",
            'Run: pip install "psycopg[binary]"; Django prefers it once it is there.',
        )


def _check_sqlite(alias: str) -> Iterator[CheckMessage]:
    options = connections[alias].settings_dict.get("OPTIONS", {})
    is_immediate = str(options.get("transaction_mode")).upper() == "IMMEDIATE"
    if not is_immediate or options.get("timeout", 5) < 10:
        yield _warning(
            3,
            f"SQLite {alias!r} will answer 'database is locked' when two processes write.",
            f"DATABASES[{alias!r}]['OPTIONS'] ="
            " {'transaction_mode': 'IMMEDIATE', 'timeout': 20,"
            " 'init_command': 'PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL'}",
        )


def _classes() -> Iterator[tuple[str, type]]:
    """All classes that are built for an attempt or a job, each with the words for it."""
    config = get_config()
    for key in ("START_TASK_HANDLER", *_ROLES):
        yield from _class_of(f"{SETTING}[{key!r}]", getattr(config, key.lower()))
    for sequence in sequences():
        for role in HANDLER_METHODS:
            yield from _class_of(f"{role} of {sequence.name!r}", getattr(sequence, role))
        for spec in sequence.tasks:
            if spec.adapter.cls is not None:
                yield f"task {spec.id!r} of {sequence.name!r}", spec.adapter.cls


def _class_of(what: str, value: Any) -> Iterator[tuple[str, type]]:
    loaded = _loaded(value)
    if isinstance(loaded, type):
        yield what, loaded


def _loaded(value: Any) -> Any:
    try:
        return load(value)
    except ConfigurationError:  # E004 says it
        return None


def _cannot_build(what: str, cls: type, names: list[str], *, has_resolver: bool) -> CheckMessage:
    plural = "s" if len(names) > 1 else ""
    reason = "the resolver cannot be asked for" if has_resolver else "nobody provides"
    return _error(
        10,
        f"{cls.__name__}, {what}, needs the argument{plural} {listing(names)}, which {reason}.",
        "Annotate with a class that is importable at run time, or give a default."
        if has_resolver
        else f"Set {SETTING}['RESOLVER'] to a callable (type) -> object, or give a default.",
    )


def _check_carried(store: str) -> Iterator[CheckMessage]:
    default = get_config().start_task_handler
    users: list[tuple[str, Any]] = [(f"{SETTING}['START_TASK_HANDLER']", default)]
    users += [(f"Sequence {item.name!r}", item.start_task_handler) for item in sequences()]
    for what, handler in users:
        loaded = _loaded(handler)
        if loaded is not None and getattr(loaded, "carried", True) is False:
            yield _error(
                11,
                f"{what} leaves jobs to workers, which cannot claim them from {store}.",
                "Use ModelTaskCacheHandler, or a start handler that carries its jobs.",
            )


def _check_atomic(store: str) -> Iterator[CheckMessage]:
    for sequence in sequences():
        ids = _atomic_ids(sequence)
        if ids:
            yield _error(
                12,
                f"{sequence.name!r} has atomic tasks ({listing(ids)}); {store} cannot keep them.",
                "Use ModelTaskCacheHandler, or leave atomic=True out.",
            )


def _atomic_ids(sequence: TaskSequence) -> list[str]:
    return [spec.id for spec in sequence.tasks if spec.atomic]
