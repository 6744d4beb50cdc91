"""Requeue or discard whatever a filter chooses: count, confirm, then work in slices of a few seconds.

Each POST does a slice, and its page holds the form for the next, which a script submits by itself and a button without
one. What is done so far travels in that form, signed, so nothing has to be kept and nobody has to clean up: whoever
closes the page has stopped, and each dead letter is dead or sent. A slice that is sent twice does nothing twice.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max, Min, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from django_taskq.admin import display
from django_taskq.admin.base import RecordAdmin
from django_taskq.admin.filters import pinned
from django_taskq.exceptions import TaskqError
from django_taskq.models import DeadTask
from django_taskq.requeue import Summary, discard_many, requeue_many, sweep
from django_taskq.signals import operator_action

SLICE = 5.0  # seconds of work that a press of the button does
SCRIPTED = 2.0  # and that the script asks for, which shows its progress more often
SAMPLES = 5
SALT = "django_taskq.bulk"
AGE = 86_400  # seconds for which a form can be continued
MOST_REASONS = 20

if TYPE_CHECKING:
    Decisions = RecordAdmin
else:
    Decisions = object


@dataclass(slots=True)
class Run:
    """One decision about many dead letters, as far as it has come."""

    action: str  # requeue or discard
    user: str
    query: str  # the filters
    last: int  # primary key of the last dead letter there was when it was confirmed
    total: int
    after: int = 0  # primary key up to which it has come
    seen: int = 0
    done: int = 0
    before: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    entry: int | None = None  # of the admin's log
    finished: bool = False

    @property
    def token(self) -> str:
        """The run as a field of a form."""
        return signing.dumps(asdict(self), salt=SALT, compress=True)


def work(run: Run, rows: QuerySet[DeadTask], seconds: float) -> None:
    """Does a slice, and notes in `run` what came of it, even when Redis goes away (TaskqError)."""
    end = time.monotonic() + seconds
    for keys in sweep(rows.filter(pk__lte=run.last), run.after):
        if run.action == "discard":
            run.done += discard_many(keys)
        else:
            _requeue(run, keys)
        run.seen += len(keys)
        run.after = keys[-1]
        if time.monotonic() >= end:
            return
    run.finished = True


def _requeue(run: Run, keys: list[int]) -> None:
    summary = Summary()
    try:
        requeue_many(keys, summary)
    finally:
        run.done += summary.sent
        run.before += summary.before
        refused = Counter(run.refused) + summary.refused
        run.refused = dict(refused.most_common(MOST_REASONS))


class BulkDecisions(Decisions):
    """The pages of DeadTaskAdmin on which many are decided at once."""

    def bulk_view(self, request: HttpRequest, action: str) -> HttpResponse:
        """GET counts and asks; POST does a slice and shows how far it is."""
        if not self.may(request, action) or not self.has_view_permission(request):
            raise PermissionDenied
        if request.method in ("GET", "HEAD"):
            return self._confirm(request, action)
        if request.method != "POST":
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        try:
            run = Run(**signing.loads(request.POST.get("run", ""), salt=SALT, max_age=AGE))
        except signing.BadSignature:
            run = None
        if run is None or (run.action, run.user, run.query) != (action, str(request.user.pk), request.GET.urlencode()):
            self.message_user(request, _("This form is too old. Choose again."), messages.WARNING)
            return HttpResponseRedirect(self.url("changelist"))
        return self._continue(request, run)

    def _chosen(self, request: HttpRequest) -> QuerySet[DeadTask]:
        """What the list shows for this address, of that what is dead."""
        rows: QuerySet[DeadTask] = self.get_changelist_instance(request).get_queryset(request)
        return rows.filter(state=DeadTask.State.DEAD)

    def _confirm(self, request: HttpRequest, action: str) -> HttpResponse:
        fixed = pinned(request.GET).urlencode()
        if fixed != request.GET.urlencode():
            return HttpResponseRedirect(f"{request.path}?{fixed}")
        rows = self._chosen(request)
        found = rows.order_by().aggregate(
            total=Count("pk"), last=Max("pk"), first_at=Min("failed_at"), last_at=Max("failed_at")
        )
        run = Run(action, str(request.user.pk), fixed, found["last"] or 0, found["total"])
        context = {
            "run": run,
            "filters": self._filters(request),
            "first": display.moment(found["first_at"]),
            "last": display.moment(found["last_at"]),
            "samples": rows.order_by("-failed_at", "-pk")[:SAMPLES],
        }
        return self._page(request, "deadtask_confirm", context)

    def _filters(self, request: HttpRequest) -> list[tuple[str, str]]:
        """The chosen filters in words."""
        changelist = self.get_changelist_instance(request)
        shown = [
            (str(spec.title), str(choice["display"]))
            for spec in changelist.filter_specs
            if getattr(spec, "parameter_name", "") in request.GET and getattr(spec, "parameter_name", "") != "state"
            for choice in spec.choices(changelist)
            if choice["selected"]
        ]
        return [*shown, *([(_("Search"), request.GET["q"])] if request.GET.get("q") else [])]

    def _continue(self, request: HttpRequest, run: Run) -> HttpResponse:
        scripted = "X-Taskq-Fragment" in request.headers
        before, error = run.done, ""
        try:
            work(run, self._chosen(request), SCRIPTED if scripted else SLICE)
        except TaskqError as problem:
            error = str(problem)
        self._note(request, run, run.done - before)
        context = {
            "run": run,
            "error": error,
            "reasons": run.refused.items(),
            "share": min(100, 100 * run.seen // run.total) if run.total else 100,
        }
        return self._page(request, "deadtask_progress", context)

    def _note(self, request: HttpRequest, run: Run, count: int) -> None:
        """One entry in the log for the whole run, brought up to date after each slice."""
        if not count:
            return
        what = (
            _("Requeued %(done)d of %(total)d.") if run.action == "requeue" else _("Discarded %(done)d of %(total)d.")
        )
        text = " ".join(filter(None, [what % {"done": run.done, "total": run.total}, run.query]))
        if run.entry is None:
            [entry] = self.log(request, [], CHANGE, text, run.done)
            run.entry = entry.pk
        else:
            entries = LogEntry.objects.filter(pk=run.entry)
            entries.update(change_message=text, object_repr=self.counted(run.done))
        operator_action.send_robust(sender=run.action, user=request.user, target="", count=count)

    def _page(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        request.current_app = self.admin_site.name
        verb = _("Requeue dead letters") if context["run"].action == "requeue" else _("Discard dead letters")
        around = {
            **self.admin_site.each_context(request),
            "tabs": self.tabs(request),
            "title": verb,
            "subtitle": None,
            "opts": self.opts,
        }
        list_url = f"{self.url('changelist')}?{request.GET.urlencode()}".removesuffix("?")
        context = {**around, "list_url": list_url, "requeuing": context["run"].action == "requeue", **context}
        return TemplateResponse(request, f"admin/django_taskq/{template}.html", context)
