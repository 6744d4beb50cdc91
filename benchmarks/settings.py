"""Settings of the benchmarks: everything at its default; broker and SQLite file come from the environment."""

from __future__ import annotations

import os
from typing import Any

from testproject.environment import database

SECRET_KEY = "benchmarks"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_taskq", "benchmarks"]
DATABASES = {"default": database(os.environ["DATABASE_URL"])}
TASKQ: dict[str, Any] = {
    "BROKER": os.environ["REDIS_URL"],
    "OUTBOX": "OUTBOX" in os.environ,
    "RETENTION_MAX_ROWS": 100_000_000,  # rows are counted at the end: the pruner may take none for being too many
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
