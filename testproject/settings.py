"""A small real site around django_taskq. What differs between machines comes from the environment: see .env.example."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from testproject.environment import broker_url, database, metered, read_dotenv

BASE_DIR = Path(__file__).resolve().parent.parent
read_dotenv(Path(os.environ.get("ENV_FILE", BASE_DIR / ".env")))

# Everything the site writes (database, mails, pictures) goes below this directory.
DATA_DIR = Path(os.environ.get("DATA_DIR", BASE_DIR / "var")).resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True)

DEBUG = os.environ.get("DEBUG", "1") == "1"
SECRET_KEY = os.environ.get("SECRET_KEY", "only-for-development")
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

# Without the extra `metrics`, which keeps Django below 6.1, the site is the same but for /metrics.
METERED = find_spec("django_prometheus") is not None

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    *(["django_prometheus"] if METERED else []),
    "django_taskq",
    "testproject.shop",
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
if METERED:
    MIDDLEWARE.insert(0, "django_prometheus.middleware.PrometheusBeforeMiddleware")
    MIDDLEWARE.append("django_prometheus.middleware.PrometheusAfterMiddleware")

TEMPLATES: list[dict[str, Any]] = [
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

ROOT_URLCONF = "testproject.urls"
WSGI_APPLICATION = "testproject.wsgi.application"

DATABASES = {"default": database(os.environ.get("DATABASE_URL", f"sqlite:///{DATA_DIR / 'db.sqlite3'}"))}
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
CACHES: dict[str, Any] = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if METERED:
    # The engines of django-prometheus are Django's own, and count: its /metrics shows queries and cache hits.
    DATABASES = {"default": metered(DATABASES["default"])}
    CACHES = {"default": {"BACKEND": "django_prometheus.cache.backends.locmem.LocMemCache"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
# Where `collectstatic` puts them; without it they are served from the apps, while DEBUG is on.
STATIC_ROOT = os.environ.get("STATIC_ROOT")

EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = DATA_DIR / "mails"
DEFAULT_FROM_EMAIL = "Shop <shop@example.com>"
MEDIA_ROOT = DATA_DIR / "media"
MEDIA_URL = "media/"

# The sample tasks use this queue; the demo's worker is started with this many threads and, unless 0, this metrics port.
QUEUE_NAME = os.environ.get("QUEUE_NAME", "default")
WORKER_CONCURRENCY = int(os.environ.get("WORKER_CONCURRENCY", "8"))
METRICS_PORT = int(os.environ.get("METRICS_PORT", "2112") or 0) if METERED else 0

# How often the sample tasks fail on purpose, 0 to 1.
EMAIL_FAILURE_RATE = float(os.environ.get("EMAIL_FAILURE_RATE", "0.05"))
PICTURE_FAILURE_RATE = float(os.environ.get("PICTURE_FAILURE_RATE", "0.03"))

# Seconds between two counts of the mails that were written; 0: nobody counts them.
COUNT_MAILS_EVERY: float | None = float(os.environ.get("COUNT_MAILS_EVERY", "60")) or None

TASKQ: dict[str, Any] = {
    "BROKER": broker_url(default="embedded://"),
    "QUEUES": {"default": {}, QUEUE_NAME: {}},
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": os.environ.get("LOG_LEVEL", "INFO")},
}
