"""The Django app: finds the tasks of every installed app, registers the checks, connects middleware and producer."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.utils.module_loading import autodiscover_modules


class DjangoTaskqConfig(AppConfig):
    name = "django_taskq"
    label = "django_taskq"
    verbose_name = "Task queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_taskq import backend, checks, producer, project_checks, worker_hint  # noqa: F401  (checks register)
        from django_taskq.middleware import around_sending, headers_for

        backend.start()
        worker_hint.watch_for_workers()
        producer.set_middleware(headers_for, around_sending)
        if apps.is_installed("django_prometheus"):
            from django_taskq.metrics import register

            register()
        autodiscover_modules("tasks")
