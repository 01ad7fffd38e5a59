"""Settings of the measured processes: what a site with one app and some sequences has, no more."""

import environ

from tests.settings import SQLITE_OPTIONS

_env = environ.Env()
_config = _env.db_url_config(_env("DATABASE_URL"))
if "sqlite" in _config["ENGINE"]:
    _config["OPTIONS"] = SQLITE_OPTIONS

DATABASES = {"default": _config}
TASKS_SEQ = _env.json("TASKS_SEQ_BENCH_SETTINGS", default={})
SECRET_KEY = "benchmarks-only"
DEBUG = False
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django_tasks_seq", "tests.benchmarks"]
