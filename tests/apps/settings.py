"""A site with apps of other people that know nothing but `django.tasks`; our backend is behind it."""

from testproject.settings import INSTALLED_APPS as SITE
from testproject.settings import MIDDLEWARE as PAGES
from tests.settings import *  # noqa: F403

INSTALLED_APPS = [
    *SITE,
    "tests.sampleapp",
    "wagtail.users",
    "wagtail.images",
    "wagtail.documents",
    "wagtail.search",
    "wagtail.admin",
    "wagtail",
    "modelcluster",
    "taggit",
    "crontask",
    "django_periodic_tasks",
    "maintenance_tasks",
    "overseer",
    "tasks_monitor",
    "tests.apps.shop",
]
MIDDLEWARE = PAGES
ROOT_URLCONF = "tests.apps.urls"
WAGTAIL_SITE_NAME = "Shop"
WAGTAILADMIN_BASE_URL = "http://localhost"
MAINTENANCE_TASKS = {"MAX_RUNTIME": 0}  # every batch is a task of its own
# Overseer retries by itself.
TASKS = {"default": {"BACKEND": "django_taskq.backend.TaskqBackend", "OPTIONS": {"defaults": {"max_retries": 0}}}}
