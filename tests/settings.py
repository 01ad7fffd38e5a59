"""Settings of the test suite: SQLite files, or the server that `DATABASE_URL` names.

Processes started by a test find its databases through `TASKS_SEQ_TEST_NAME_<ALIAS>`.
"""

import os
from pathlib import Path
from typing import Any

import environ

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent
VAR_DIR = Path(env("TASKS_SEQ_TEST_VAR", default=str(BASE_DIR / "var")))
VAR_DIR.mkdir(parents=True, exist_ok=True)

SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
}


def database(alias: str, url: str, suffix: str = "") -> dict[str, Any]:
    """Return the settings of one alias; runs side by side differ in the process id."""
    config: dict[str, Any] = env.db_url_config(url)
    sqlite = "sqlite" in config["ENGINE"]
    if sqlite:
        config["OPTIONS"] = SQLITE_OPTIONS | config.get("OPTIONS", {})
        test_name = str(VAR_DIR / f"test-{alias}-{os.getpid()}.sqlite3")
    else:
        config["NAME"] += suffix
        test_name = f"test_{config['NAME']}_{os.getpid()}"
    config["NAME"] = env(f"TASKS_SEQ_TEST_NAME_{alias.upper()}", default=config["NAME"])
    config["TEST"] = {"NAME": test_name}
    return config


DATABASE_URL = env("DATABASE_URL", default="") or f"sqlite:///{VAR_DIR / 'default.sqlite3'}"
_jobs_url = (
    f"sqlite:///{VAR_DIR / 'jobs.sqlite3'}" if DATABASE_URL.startswith("sqlite") else DATABASE_URL
)
DATABASES = {
    "default": database("default", DATABASE_URL),
    "jobs": database("jobs", env("JOBS_DATABASE_URL", default=_jobs_url), suffix="_jobs"),
}

# Tests of worker processes choose leases and the like through the environment.
TASKS_SEQ: dict[str, Any] = env.json("TASKS_SEQ_TEST_SETTINGS", default={})

SECRET_KEY = "tests-only"
DEBUG = env.bool("TASKS_SEQ_TEST_DEBUG", default=False)
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_tasks_seq",
    "tests.testapp",
    "example_project.shop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
