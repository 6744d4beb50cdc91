"""Imported by workers of tests that would take long otherwise: what a worker waits for, shortened."""

from __future__ import annotations

from django_taskq.worker import process, restarts, time_limits

time_limits.GRACE = 1.0
process.SETTLING = 1.0
restarts.YOUNG = 0.0
