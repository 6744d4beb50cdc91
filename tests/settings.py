"""The test project's settings, cut off from this machine: no .env file, no broker until a fixture names one.

Worker processes started by the `worker` fixture use these too; TASKQ_TEST_SETTINGS (JSON) is merged into TASKQ there,
the modules in TASKQ_TEST_TASKS (comma-separated) are imported for the tasks they hold, and TASKQ_TEST_APP is an app.
"""

import json
import os
import tempfile

os.environ["ENV_FILE"] = os.devnull
os.environ.setdefault("DATA_DIR", tempfile.gettempdir() + f"/taskq-tests-{os.getuid()}")
# Nobody listens there: a test that forgot its fixture fails instead of filling somebody's Redis.
os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:1/0")

from testproject.settings import *  # noqa: F403
from testproject.settings import DATABASES, INSTALLED_APPS, TASKQ

COUNT_MAILS_EVERY = None  # what tests have not sent themselves would surprise them
INSTALLED_APPS = [*INSTALLED_APPS, "tests.sampleapp", *filter(None, [os.environ.get("TASKQ_TEST_APP")])]
# Of tests/encryption: its tasks need a key when they are declared.
TASKQ = {**TASKQ, "ENCRYPTION_KEYS": {"k1": "hXS0BFh41hmF+OzJ2n4r6Sx3wg4WmWCPfW2Xvuo6q0A="}}
TASKQ = {**TASKQ, **json.loads(os.environ.get("TASKQ_TEST_SETTINGS", "{}"))}
if "TASKQ_TEST_SETTINGS" in os.environ:
    # A worker needs no pages; hundreds are started, and this is a quarter of what each start costs.
    OF_PAGES = ("admin", "sessions", "messages", "staticfiles", "django_prometheus")
    INSTALLED_APPS = [app for app in INSTALLED_APPS if app.removeprefix("django.contrib.") not in OF_PAGES]
    engine = DATABASES["default"]["ENGINE"].replace("django_prometheus", "django")
    DATABASES = {"default": {**DATABASES["default"], "ENGINE": engine}}
    MIDDLEWARE: list[str] = []
    ROOT_URLCONF = "tests.sampleapp.urls"
if "mysql" in DATABASES["default"]["ENGINE"]:
    SILENCED_SYSTEM_CHECKS = ["models.W037"]  # as docs/configuration.md says
SESSION_ENGINE = "django.contrib.sessions.backends.db"  # of requests, whose queries are counted
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
# Django's own `django.tasks`, and its backport: tests/backend.
TASKS = {
    "default": {
        "BACKEND": "django_taskq.backend.TaskqBackend",
        "OPTIONS": {
            "defaults": {"backoff": 0.01},
            "tasks": {"tests.backend.tasks.patient": {"max_retries": 2, "retry_on": ["ValueError"], "timeout": 30}},
        },
    }
}
