"""Edit the arguments of a dead letter and requeue it.

The task, its queue and its id stay: it is the next run of the same task. So whoever holds the handle gets its result,
the idempotency key stays with it, and of an edited and an unedited requeue only the first is sent. The dead letter
keeps the arguments that failed, the new run's records have the others, and each page leads to the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from django_taskq.admin.arguments import Editable, Unusable, editable, edited
from django_taskq.admin.base import RecordAdmin
from django_taskq.core.message import Message
from django_taskq.exceptions import TaskqError
from django_taskq.models import DeadTask
from django_taskq.registry import lookup
from django_taskq.requeue import Requeued, requeue, stored_message
from django_taskq.sealed import opened_message

if TYPE_CHECKING:
    Editing = RecordAdmin
else:
    Editing = object


class EditArguments(Editing):
    """The page of DeadTaskAdmin on which arguments are edited."""

    def edit_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """GET shows the form; POST checks what was typed, and requeues."""
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        row: DeadTask | None = self.get_object(request, unquote(object_id))
        needed = self.may(request, "requeue") and self.may(request, "view_arguments")
        if not needed or not self.has_view_permission(request, row):
            raise PermissionDenied
        if row is None:
            return self.gone(request)
        if row.state != DeadTask.State.DEAD:
            self.message_user(request, _("It is dead no longer: there is nothing to edit."), messages.WARNING)
            return HttpResponseRedirect(self.url("change", row.pk))
        try:
            message = opened_message(stored_message(row))
            shown = editable(message)
        except (Unusable, TaskqError) as problem:
            self.message_user(request, str(problem), messages.ERROR)
            return HttpResponseRedirect(self.url("change", row.pk))
        if request.method != "POST":
            return self._form(request, row, shown, shown.args, shown.kwargs)
        return self._edit(request, row, message, shown)

    def _edit(self, request: HttpRequest, row: DeadTask, message: Message, shown: Editable) -> HttpResponse:
        args, kwargs = request.POST.get("args", ""), request.POST.get("kwargs", "")
        before = message.args, message.kwargs
        try:
            arguments = edited(message, args, kwargs)
            outcome = requeue(row, arguments)
        except Unusable as problem:
            return self._form(request, row, shown, args, kwargs, str(problem), problem.field)
        except (TaskqError, DeadTask.DoesNotExist) as problem:
            return self._form(request, row, shown, args, kwargs, str(problem))
        if outcome is Requeued.SENT:
            run = {"run": row.run + 1}
            changed = arguments != before
            text = _("Requeued as run %(run)d with edited arguments.") if changed else _("Requeued as run %(run)d.")
            self.message_user(request, text % run, messages.SUCCESS)
            self.decided(request, "edit" if changed else "requeue", [row], text % run, 1)
        else:
            text = _("It had been requeued before: what you typed was not sent.")
            self.message_user(request, text, messages.WARNING)
        return HttpResponseRedirect(self.task_url(request, row.task_id) or self.url("change", row.pk))

    def _form(
        self,
        request: HttpRequest,
        row: DeadTask,
        shown: Editable,
        args: str,
        kwargs: str,
        error: str = "",
        at: str = "",
    ) -> HttpResponse:
        request.current_app = self.admin_site.name
        task = lookup(row.task)
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "tabs": self.tabs(request),
            "title": _("Edit arguments and requeue"),
            "subtitle": None,
            "opts": self.opts,
            "row": row,
            "signature": f"{row.task}{task.codec.signature}" if task is not None else "",
            "fields": [
                ("args", _("Arguments"), args, at == "args"),
                ("kwargs", _("Keyword arguments"), kwargs, at == "kwargs"),
            ],
            "secrets": bool(shown.secrets),
            "error": error,
            "back": self.url("change", row.pk),
        }
        return TemplateResponse(request, "admin/django_taskq/deadtask_edit.html", context, status=422 if error else 200)
