"""Actions of a project's own admin pages that send a task for each selected row.

@admin.register(Order)
class OrderAdmin(TaskActionMixin, admin.ModelAdmin):
    task_actions = [send_invoice, TaskAction(remind, "Remind the customer", permissions=("view",))]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin.options import IS_POPUP_VAR
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_taskq.admin.entries import write_entry
from django_taskq.exceptions import TaskqError
from django_taskq.producer import Call
from django_taskq.sender import Sender
from django_taskq.signals import operator_action
from django_taskq.task import Task, TaskCall


@dataclass(frozen=True)
class TaskAction:
    """One action. Who has one of `permissions` of the page ("view", "change", ..., or one of its own) may use it.

    `call` makes the arguments, (args, kwargs), of a row. Without it the task is given the row where its first parameter
    is hinted with a model, and else its key.
    """

    task: Sender[Any, Any]  # a Task, or what task.using(...) returns
    description: str = ""
    permissions: Sequence[str] = ("change",)
    call: Callable[[Any], Call] | None = None

    @property
    def declared(self) -> Task[..., Any]:
        """The task, without the options of a `using()`."""
        task = self.task
        return task.task if isinstance(task, TaskCall) else self.task.route.task

    def calls(self, rows: QuerySet[Any]) -> Iterator[Call]:
        """One for each row."""
        if self.call is not None:
            yield from map(self.call, rows.iterator())
        elif _takes_row(self.declared):
            yield from (((row,), {}) for row in rows.iterator())
        else:
            yield from (((key,), {}) for key in rows.values_list("pk", flat=True).iterator())


def _takes_row(task: Task[..., Any]) -> bool:
    positional = task.codec.parameters.positional
    return bool(positional) and positional[0][1].refers


class TaskActionMixin:
    """For a ModelAdmin. What was sent is in the admin's log and in the signal `operator_action`."""

    task_actions: Sequence[TaskAction | Sender[Any, Any]] = ()
    model: type[Model]

    def get_actions(self, request: HttpRequest) -> dict[str, tuple[Callable[..., Any], str, str] | None]:
        """Those of the page, and one for each task that this user may send."""
        actions = super().get_actions(request)  # type: ignore[misc]
        if IS_POPUP_VAR in request.GET:
            return actions  # type: ignore[no-any-return]
        for each in self.task_actions:
            action = each if isinstance(each, TaskAction) else TaskAction(each)
            if any(getattr(self, f"has_{permission}_permission")(request) for permission in action.permissions):
                name = f"taskq_{action.declared.name}"
                actions[name] = (_function(action), name, self._described(action))
        return actions  # type: ignore[no-any-return]

    def _described(self, action: TaskAction) -> str:
        what = action.description or _("Run %(task)s for selected rows") % {"task": action.declared.name}
        return capfirst(what)

    def send_for_rows(self, request: HttpRequest, action: TaskAction, rows: QuerySet[Any]) -> None:
        """Sends the calls, all checked before the first is sent, and says so."""
        name, options = action.declared.name, self.model._meta
        first = list(rows.order_by()[:2])
        try:
            handles = action.task.delay_many(action.calls(rows))
        except TaskqError as error:
            messages.error(request, _("%(task)s was not sent: %(error)s") % {"task": name, "error": error})
            return
        count = len(handles)
        one = first[0] if len(first) == 1 else None
        key = None if one is None else str(one.pk)
        what = f"{count} {options.verbose_name_plural}" if one is None else str(one)
        write_entry(request, self.model, _("Sent %(task)s.") % {"task": name}, key=key, text=what)
        operator_action.send_robust(sender="submit", user=request.user, target=name, count=count)
        sent = ngettext("%(count)d task sent: %(task)s.", "%(count)d tasks sent: %(task)s.", count)
        messages.success(request, sent % {"count": count, "task": name})


def _function(action: TaskAction) -> Callable[..., None]:
    def send(page: TaskActionMixin, request: HttpRequest, rows: QuerySet[Any]) -> None:
        page.send_for_rows(request, action, rows)

    return send
