"""Makes a worker read its metrics token often. Imported by TASKQ_TEST_TASKS."""

from __future__ import annotations

from django_taskq.worker import metrics_token

metrics_token.EVERY = 0.2
