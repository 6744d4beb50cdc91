"""One queue: its numbers and the messages in it, page by page, with the buttons that cancel them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.admin.utils import quote, unquote
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_taskq.admin import display
from django_taskq.admin.figures import ago, brief, count
from django_taskq.admin.history import Rates, recent_hour
from django_taskq.admin.links import task_urls
from django_taskq.admin.live import LiveAdmin
from django_taskq.admin.look import Look, look, look_again
from django_taskq.announcements import of_cancel
from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector, QueueState
from django_taskq.broker.listing import Page, QueuedMessage
from django_taskq.broker.statistics import Minute
from django_taskq.core.ids import id_from_str, id_to_str
from django_taskq.core.states import State
from django_taskq.exceptions import TaskqError
from django_taskq.models import Queue

PER_PAGE = 50
LONGEST_CURSOR = 100  # characters


class WaitingPages(LiveAdmin):
    """The page of one queue, and cancelling what is listed there."""

    if TYPE_CHECKING:  # QueueAdmin has them

        def row(
            self, request: HttpRequest, now: Look, rates: Rates | None, hour: Sequence[Minute], queue: QueueState
        ) -> dict[str, Any]: ...
        def find(self, now: Look, name: str) -> QueueState: ...

    def queue_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """What waits or runs, or with ?scheduled=1 what is scheduled, with ?blocked=1 what is blocked."""
        self.require(request, "monitor")
        now, name = look(), unquote(name)
        queue, hour = self.find(now, name), recent_hour(now)
        which, cursor = _which(request.GET), request.GET.get("after", "")[:LONGEST_CURSOR]
        page, trouble = self._messages(now, name, which, cursor)
        url_of = task_urls(self, request)
        context = {
            **self.away(now),
            "title": name,
            "trail": True,
            "row": self.row(request, now, Rates(hour, now.at) if hour else None, hour, queue),
            "scheduled": which == "scheduled",
            "blocked": which == "blocked",
            "rows": [_row(now, message, url_of) for message in page.messages],
            "trouble": trouble,
            "first_page": not cursor,
            "next_page": self._query(which, page.following) if page.following else "",
            "first_url": f"?{self._query(which)}",
            "after": cursor,
            "can_cancel": request.user.has_perm("django_taskq.cancel"),
            "can_pause": request.user.has_perm("django_taskq.pause"),
            "can_purge": request.user.has_perm("django_taskq.purge"),
        }
        return self.page(request, "admin/django_taskq/queue.html", context)

    def cancel_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """POST `task`, one or more ids: cancels those that no worker holds, and asks for the end of the others."""
        if refusal := self.refused(request, "cancel"):
            return refusal
        name = unquote(name)
        self.find(look(), name)
        try:
            ids = [id_from_str(text) for text in request.POST.getlist("task")[:PER_PAGE]]
        except ValueError:
            return HttpResponse(status=400)
        try:
            reason = _("cancelled by %(user)s") % {"user": request.user}
            ends = get_broker().cancel(ids, reason, of_cancel(reason))
        except TaskqError as error:
            self.message_user(request, str(error), messages.ERROR)
            ends = []
        self._tell(request, name, ids, ends)
        look_again()
        query = self._query(_which(request.POST), request.POST.get("after", "")[:LONGEST_CURSOR])
        return HttpResponseRedirect(self.link(Queue, "change", quote(name), query=query))

    def _tell(self, request: HttpRequest, name: str, ids: Sequence[bytes], ends: Sequence[bool | None]) -> None:
        done, asked, gone = ends.count(True), ends.count(False), ends.count(None)
        if done:
            text = ngettext("%(count)s task is cancelled.", "%(count)s tasks are cancelled.", done)
            self.message_user(request, text % {"count": count(done)}, messages.SUCCESS)
        if asked:
            text = ngettext(
                "%(count)s task runs and has been asked to end.",
                "%(count)s tasks run and have been asked to end.",
                asked,
            )
            self.message_user(request, text % {"count": count(asked)}, messages.SUCCESS)
        if gone:
            text = ngettext("%(count)s task had ended already.", "%(count)s tasks had ended already.", gone)
            self.message_user(request, text % {"count": count(gone)}, messages.WARNING)
        if done or asked:
            which = id_to_str(ids[0]) if len(ids) == 1 else _("%(count)s tasks") % {"count": count(done + asked)}
            text = _("Cancelled %(which)s of the queue %(queue)s.") % {"which": which, "queue": name}
            self.acted(request, "cancel", name, text, done + asked)

    @staticmethod
    def _messages(now: Look, name: str, which: str, cursor: str) -> tuple[Page, str]:
        """A page of them, or an empty one and why."""
        if now.error:
            return Page([], ""), ""
        inspector = Inspector(get_broker())
        read = partial(inspector.messages, name, scheduled=which == "scheduled", blocked=which == "blocked")
        try:
            return read(cursor=cursor, count=PER_PAGE), ""
        except ValueError:
            return read(count=PER_PAGE), ""
        except TaskqError as error:
            return Page([], ""), str(error)

    @staticmethod
    def _query(which: str, cursor: str = "") -> str:
        return urlencode({**({which: 1} if which else {}), **({"after": cursor} if cursor else {})})


def _which(values: Mapping[str, Any]) -> str:
    """Which messages are asked for: `scheduled`, `blocked`, or '' for those that are ready or run."""
    return next((kind for kind in ("scheduled", "blocked") if values.get(kind) == "1"), "")


def _row(now: Look, waiting: QueuedMessage, url_of: Callable[[str], str]) -> dict[str, Any]:
    message = waiting.message
    readable = message is not None and len(message.id) == 16
    id = id_to_str(message.id) if message is not None and readable else ""
    return {
        "id": id,
        "url": url_of(id) if id else "",
        "short_id": display.short_id(id) if id else display.EMPTY,
        "name": message.task if message else _("(cannot be read)"),
        "task": display.breakable(message.task) if message else _("(cannot be read)"),
        "running": waiting.state is State.RUNNING,
        "asked": id in now.cancelling,
        "priority": waiting.priority,
        "attempt": message.attempt + 1 if message else display.EMPTY,
        "age": ago(None if waiting.enqueued is None else now.at - waiting.enqueued),
        "due": brief(None if waiting.due is None else max(0.0, waiting.due - now.at)),
        "worker": waiting.worker,
    }
