"""Settings of Acme Shop. Each can be given in the environment or in `.env`: see `.env.example`."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import django
import environ

BASE_DIR = Path(__file__).resolve().parent

env = environ.Env()
if (BASE_DIR / ".env").exists():
    env.read_env(BASE_DIR / ".env")

VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var"))).resolve()
VAR_DIR.mkdir(parents=True, exist_ok=True)

DEBUG = env.bool("DEBUG", default=True)
SECRET_KEY = env.str("SECRET_KEY", default="for-this-machine-only" if DEBUG else environ.Env.NOTSET)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost"])

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_tasks_seq",
    "example_project.shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
if django.VERSION >= (6, 0):
    MIDDLEWARE.append("django.middleware.csp.ContentSecurityPolicyMiddleware")
    SECURE_CSP = {"default-src": ["'self'"], "img-src": ["'self'", "data:"]}

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
ASGI_APPLICATION = "example_project.asgi.application"

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


def database() -> dict[str, Any]:
    """The database of `DATABASE_URL`; SQLite is set up so that many writers do not collide."""
    url = env.str("DATABASE_URL", default="") or f"sqlite:///{VAR_DIR / 'acme.sqlite3'}"
    config: dict[str, Any] = env.db_url_config(url)
    if config["ENGINE"] == "django.db.backends.sqlite3":
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        }
    else:
        config["HOST"] = unquote(config["HOST"])
    return config


DATABASES = {"default": database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [("photos", BASE_DIR / "data" / "photos")]
MEDIA_URL = "media/"
MEDIA_ROOT = VAR_DIR / "media"

MAIL_DIR = VAR_DIR / "mails"
DEFAULT_FROM_EMAIL = "Acme Shop <shop@acme.example>"
if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {
            "BACKEND": "django.core.mail.backends.filebased.EmailBackend",
            "OPTIONS": {"file_path": MAIL_DIR},
        }
    }
else:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = MAIL_DIR

ACME_SHOP = {
    "VAR_DIR": VAR_DIR,
    "MAIL_DIR": MAIL_DIR,
    "GATEWAY_URL": env.str("GATEWAY_URL", default="http://127.0.0.1:8001"),
    "GATEWAY_TIMEOUT": env.float("GATEWAY_TIMEOUT", default=5.0),
    "PICTURE_PACE": env.float("PICTURE_PACE", default=0.25),
    "OPS_EMAIL": env.str("OPS_EMAIL", default="ops@acme.example"),
}

TASKS_SEQ = {
    "RESOLVER": "example_project.shop.injection.resolve",
    "LEASE_SECONDS": env.int("LEASE_SECONDS", default=15),
    "POLL_INTERVAL": 0.2,
}
