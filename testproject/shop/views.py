"""A form that sends tasks, and a page that shows what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from django_taskq import TaskHandle, get_task
from django_taskq.exceptions import BrokerUnavailable, TaskNotFound
from testproject.shop import tasks
from testproject.shop.forms import SendForm
from testproject.shop.pictures import draw_sample

REMEMBERED = 50  # tasks per visitor
ENDED = {"succeeded", "failed", "cancelled", "expired", "discarded"}


@dataclass(frozen=True)
class Sent:
    """A row of the status page."""

    id: str
    work: str
    status: str

    @property
    def ended(self) -> bool:
        return self.recorded or self.status == "unknown"

    @property
    def recorded(self) -> bool:
        """Whether the admin has a page about it, or will in a moment."""
        return self.status in ENDED


@require_http_methods(["GET", "HEAD", "POST"])
def send(request: HttpRequest) -> HttpResponse:
    form = SendForm(request.POST or None)
    if form.is_valid():
        wanted = form.cleaned_data
        try:
            handles = [_send_one(number, **wanted) for number in range(1, wanted["count"] + 1)]
        except BrokerUnavailable as error:
            form.add_error(None, f"The task queue is away: {error}")
            return render(request, "shop/send.html", {"form": form}, status=503)
        label = dict(SendForm.WORK)[wanted["work"]]
        sent = [[handle.id, label] for handle in handles] + request.session.get("sent", [])
        request.session["sent"] = sent[:REMEMBERED]
        return redirect("sent")
    return render(request, "shop/send.html", {"form": form}, status=400 if form.errors else 200)


@require_safe
def sent(request: HttpRequest) -> HttpResponse:
    """The page asks for itself again, without any script, until everything has ended."""
    try:
        rows = [Sent(task_id, work, _status(task_id)) for task_id, work in request.session.get("sent", [])]
    except BrokerUnavailable as error:
        return render(request, "shop/sent.html", {"away": str(error), "waiting": True}, status=503)
    return render(request, "shop/sent.html", {"rows": rows, "waiting": not all(row.ended for row in rows)})


def _send_one(number: int, *, work: str, delay: float, priority: int, **_: Any) -> TaskHandle[Any]:
    options: dict[str, Any] = {}
    if delay:
        options["run_after"] = timedelta(seconds=delay)
    if priority:
        options["priority"] = priority
    match work:
        case "email":
            address, text = f"customer{number}@example.com", f"Order {number} is on its way."
            return tasks.send_email.using(**options).delay(address, "Your order", text)
        case "picture":
            name = f"sample-{number}.png"
            if not (path := Path(settings.MEDIA_ROOT, name)).exists():
                draw_sample(path, number)
            return tasks.resize_picture.using(**options).delay(name)
        case "flaky":
            return tasks.flaky.using(**options).delay()
        case "failure":
            return tasks.always_fails.using(**options).delay(number)
        case "supplier":
            return tasks.ask_supplier.using(**options).delay(f"article {number}")
        case _:
            return tasks.build_report.using(**options).delay(seconds=3)


def _status(task_id: str) -> str:
    try:
        return get_task(task_id).status
    except TaskNotFound:
        return "unknown"
