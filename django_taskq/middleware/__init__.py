"""Middleware around the running of tasks, and headers that travel from the producer to it. See base.py, sending.py."""

from __future__ import annotations

from django_taskq.middleware.base import Call, Factory, around, call_chain, enter_supervisor, load_middleware
from django_taskq.middleware.sending import around_sending, headers_for
from django_taskq.producer import Sending

__all__ = [
    "Call",
    "Factory",
    "Sending",
    "around",
    "around_sending",
    "call_chain",
    "enter_supervisor",
    "headers_for",
    "load_middleware",
]
