"""Middleware around the running of tasks, and headers that travel from the producer to it. See base.py."""

from __future__ import annotations

from django_taskq.middleware.base import Call, Factory, around, call_chain, headers_for, load_middleware

__all__ = ["Call", "Factory", "around", "call_chain", "headers_for", "load_middleware"]
