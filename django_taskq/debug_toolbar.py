"""A panel of django-debug-toolbar: the tasks that a request has sent.

DEBUG_TOOLBAR_PANELS = [..., "django_taskq.debug_toolbar.TaskqPanel"]
"""

from __future__ import annotations

import datetime as dt
from contextvars import ContextVar
from typing import Any

from debug_toolbar.panels import Panel
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_taskq.broker import Found, get_broker
from django_taskq.core.ids import id_from_str
from django_taskq.core.sealing import from_json, is_sealed_json
from django_taskq.exceptions import TaskqError
from django_taskq.opening import placeholder
from django_taskq.redaction import redact_json
from django_taskq.signals import task_enqueued

MOST = 200  # tasks listed
LONGEST = 500  # characters of arguments

_sent: ContextVar[list[dict[str, Any]] | None] = ContextVar("django_taskq_toolbar", default=None)


def _note(sender: Any, task_id: str, queue: str, **_: Any) -> None:
    """A task was sent, perhaps by the request of this context."""
    sent = _sent.get()
    if sent is not None:
        at = dt.datetime.now(dt.UTC).isoformat()
        sent.append({"id": task_id, "task": getattr(sender, "name", str(sender)), "queue": queue, "at": at})


class TaskqPanel(Panel):  # type: ignore[misc]
    """Sent by `delay()`, `delay_many()`, and on commit if the request's transaction has been committed."""

    title = gettext_lazy("Tasks of django_taskq")
    nav_title = gettext_lazy("Task queue")
    template = "django_taskq/debug_toolbar.html"
    is_async = True

    @classmethod
    def ready(cls) -> None:
        """Listens, once for all requests."""
        task_enqueued.connect(_note, dispatch_uid="django_taskq.debug_toolbar")

    @property
    def nav_subtitle(self) -> str:
        """How many."""
        count = self.get_stats().get("count", 0)
        return ngettext("%(count)d task sent", "%(count)d tasks sent", count) % {"count": count}

    def enable_instrumentation(self) -> None:
        """From now on, what this request sends."""
        self._tasks: list[dict[str, Any]] = []
        self._token = _sent.set(self._tasks)

    def disable_instrumentation(self) -> None:
        """The request has been answered."""
        _sent.set(None)

    def generate_stats(self, request: Any, response: Any) -> None:
        """Asks once for the arguments of all of them."""
        listed = [dict(task) for task in self._tasks[:MOST]]
        for task, found in zip(listed, _found(listed), strict=True):
            task.update(state=str(found.state or ""), arguments=_arguments(found), url=_page(task["id"]))
        self.record_stats({"count": len(self._tasks), "tasks": listed, "more": len(self._tasks) - len(listed)})


def _found(tasks: list[dict[str, Any]]) -> list[Found]:
    """Where they are; nothing known of them where Redis is away."""
    try:
        return get_broker().find([id_from_str(task["id"]) for task in tasks], patience=0) if tasks else []
    except TaskqError:
        return [Found(None)] * len(tasks)


def _arguments(found: Found) -> str:
    call = found.message or found.outcome
    if call is None or not call.task:
        return ""
    if is_sealed_json(call.args):
        return placeholder(from_json(call.args), say=_)
    given = (redact_json(call.args), redact_json(call.kwargs))
    text = " ".join(part.decode() for part in given if part not in (b"[]", b"{}"))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _page(id: str) -> str:
    try:
        return reverse("admin:django_taskq_taskresult_change", args=[id])
    except NoReverseMatch:
        return ""
