"""The model of periodic tasks: what to send and when, whether code declares it, and how far its ticks have come."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.conf import settings
from django.db import models
from django.utils.timezone import is_aware
from django.utils.translation import gettext_lazy as _

from django_taskq.core.cron import CronTimes, parse_zone
from django_taskq.core.schedule import ONCE, SKIP, Interval, Times

NAME_LENGTH = 255
CRON_LENGTH = 200
RECENT = dt.timedelta(seconds=5)  # longer than a scheduler sleeps

# What a declaration in code says, and a person may change.
SCHEDULE_FIELDS = ("cron", "every", "timezone")
DECLARED_FIELDS = ("task", *SCHEDULE_FIELDS, "args", "kwargs", "jitter", "catch_up", "overlap")


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class MomentField(models.DateTimeField):  # type: ignore[type-arg]
    """A time that is aware for whoever reads it, with USE_TZ and without: then the database has it in UTC."""

    def get_prep_value(self, value: Any) -> Any:
        """As the database takes it."""
        moment = super().get_prep_value(value)
        if settings.USE_TZ or moment is None or not is_aware(moment):
            return moment
        return moment.astimezone(dt.UTC).replace(tzinfo=None)

    def from_db_value(self, value: Any, *_: Any) -> Any:
        """As the rest of us takes it."""
        return value if value is None or is_aware(value) else value.replace(tzinfo=dt.UTC)


class PeriodicTask(models.Model):
    """A task that is sent whenever its schedule says so. Times are on Redis' clock."""

    class CatchUp(models.TextChoices):
        ONCE = ONCE, _("once: the last missed tick is fired late")
        SKIP = SKIP, _("skip: missed ticks are left out")

    name = models.CharField(_("name"), max_length=NAME_LENGTH, unique=True)
    task = models.CharField(_("task"), max_length=NAME_LENGTH)
    cron = models.CharField(_("cron"), max_length=CRON_LENGTH, default="", blank=True, help_text=_("like */5 * * * *"))
    every = models.DurationField(
        _("every"), null=True, blank=True, help_text=_("instead of cron: 00:10:00 is ten minutes")
    )
    timezone = models.CharField(
        _("time zone"), max_length=64, default="UTC", blank=True, help_text=_("of cron, like Europe/Berlin")
    )
    args = models.TextField(_("arguments"), default="[]", blank=True, help_text=_("JSON array"))
    kwargs = models.TextField(_("keyword arguments"), default="{}", blank=True, help_text=_("JSON object"))
    jitter = models.FloatField(_("jitter"), default=0.0, help_text=_("starts up to so many seconds after its time"))
    catch_up = models.CharField(
        _("catch up"), max_length=8, choices=CatchUp.choices, default=CatchUp.ONCE,
        help_text=_("when nothing could be sent in time, because no worker ran"),
    )  # fmt: skip
    overlap = models.BooleanField(
        _("overlap"), default=True, help_text=_("sent even while the one before is still on its way")
    )
    enabled = models.BooleanField(_("enabled"), default=True)

    # As JSON, '' where it was made in the admin.
    declared = models.TextField(_("declared in code"), default="", editable=False)
    superseded = models.JSONField(default=list, editable=False)  # digests of earlier declarations
    changed = models.BooleanField(_("changed here"), default=False, editable=False)
    seen_at = MomentField(null=True, editable=False)  # when a worker last declared just this
    removed_at = MomentField(_("removed from the code"), null=True, editable=False)

    since = MomentField(default=utc_now, editable=False)  # ticks up to then are not fired
    last_tick = MomentField(_("last tick"), null=True, editable=False)  # fired or passed over
    last_task = models.UUIDField(_("last task"), null=True, editable=False)  # that was sent

    class Meta:
        verbose_name = _("periodic task")
        verbose_name_plural = _("periodic tasks")
        ordering = ("name",)
        permissions = (("run", _("Can run periodic tasks now")),)

    def __str__(self) -> str:
        return self.name

    @property
    def is_active(self) -> bool:
        """Whether its ticks are fired."""
        return self.enabled and self.removed_at is None

    @property
    def times(self) -> Times:
        """Its schedule; ValueError for one that makes no sense, ImportError for cron without cronsim."""
        if self.every is not None:
            return Interval(self.every)
        return CronTimes(self.cron, parse_zone(self.timezone or "UTC"))

    def settled(self, at: dt.datetime, *others: dt.datetime | None) -> dt.datetime:
        """Up to when nothing is fired any more, as of `at`; `others` are further moments of that kind.

        What lies further ahead than an hour was noted before the clock stepped back, and does not count. What was fired
        before that is not known then, so nothing older than a few seconds is fired.
        """
        horizon = at + dt.timedelta(hours=1)
        known: list[dt.datetime] = [moment for moment in (self.since, self.last_tick, *others) if moment is not None]
        believable = [moment for moment in known if moment <= horizon]
        return max(believable if len(believable) == len(known) else [*believable, at - RECENT])


def different(row: PeriodicTask, values: dict[str, Any], fields: tuple[str, ...] = DECLARED_FIELDS) -> bool:
    """Whether any of these fields of a row is not as in `values`."""
    return any(getattr(row, field) != values[field] for field in fields)
