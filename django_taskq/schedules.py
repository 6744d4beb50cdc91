"""`@task(cron=..., every=...)`: when a task runs by itself, as code declares it. Checked when a module is imported."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from typing import Any, Literal

from django_taskq.core.cron import CronTimes, parse_zone
from django_taskq.core.schedule import CATCH_UP, LONGEST, Interval
from django_taskq.exceptions import InvalidTask

_NAME = re.compile(r"[\w.@/-]{1,50}")
MOST_JITTER = 86_400.0  # seconds


@dataclass(frozen=True, slots=True)
class _Options:
    """What every schedule has. The task is sent with `args` and `kwargs`, up to `jitter` seconds after the tick.

    `catch_up`: "once" fires the last of the ticks that nobody fired in time, "skip" none of them. `overlap=False`
    leaves out a tick while the task of the one before is still on its way. `name` tells the schedules of a task apart.
    """

    _: KW_ONLY
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    jitter: float | timedelta = 0.0
    catch_up: Literal["once", "skip"] = "once"
    overlap: bool = True
    name: str = ""


@dataclass(frozen=True, slots=True)
class Cron(_Options):
    """Runs when a cron expression says so: `@task(cron=Cron("30 6 * * MON-FRI", timezone="Europe/Berlin"))`."""

    expression: str = field(kw_only=False)
    timezone: str | None = None  # None: settings.TIME_ZONE


@dataclass(frozen=True, slots=True)
class Every(_Options):
    """Runs at every whole multiple of a span since 1970 in UTC: `@task(every=Every(timedelta(hours=1), jitter=30))`."""

    span: float | timedelta = field(kw_only=False)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A checked schedule of one task; spans are seconds."""

    name: str  # of the periodic task: the task's, or "<task>:<schedule's name>"
    cron: str
    every: timedelta | None
    timezone: str | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    jitter: float
    catch_up: str
    overlap: bool


def parse(task: str, cron: Any, every: Any) -> tuple[Schedule, ...]:
    """The schedules of a task; InvalidTask names the task, the option and what it takes."""
    found: dict[str, Schedule] = {}
    for option, declared in (("cron", _each(cron, Cron)), ("every", _each(every, Every))):
        for one in declared:
            try:
                schedule = _checked(task, one)
            except (ValueError, ImportError) as error:
                raise InvalidTask(f"Task {task}: option {option}: {error}.") from error
            if schedule.name in found:
                raise InvalidTask(
                    f"Task {task}: two of its schedules have the same name, {schedule.name!r}. Tell them apart, as in "
                    'cron=[Cron("0 6 * * *", name="morning"), Cron("0 18 * * *", name="evening")].'
                )
            found[schedule.name] = schedule
    return tuple(found.values())


def _each(value: Any, kind: type[Cron | Every]) -> Iterator[Any]:
    """One schedule or several, each in its long form where it is given in its short one."""
    if value is None:
        return
    several = value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    for one in several:
        short: Any = one
        yield kind(short) if isinstance(one, str | int | float | timedelta) else one


def _checked(task: str, declared: Any) -> Schedule:
    every, cron, timezone = None, "", None
    if isinstance(declared, Cron):
        if not isinstance(declared.expression, str):
            raise ValueError(f"a cron expression is a string like '*/5 * * * *', not {declared.expression!r:.80}")
        cron, timezone = " ".join(declared.expression.split()), declared.timezone
        CronTimes(cron, parse_zone(timezone or "UTC"))
    elif isinstance(declared, Every):
        every = Interval(_span("it", declared.span, LONGEST.total_seconds())).span
    else:
        raise ValueError(f"must be a cron expression, Cron(...), a span, Every(...), or a list; not {declared!r:.80}")
    if declared.catch_up not in CATCH_UP:
        raise ValueError(f"catch_up={declared.catch_up!r:.80} must be 'once' or 'skip'")
    if not isinstance(declared.overlap, bool):
        raise ValueError(f"overlap={declared.overlap!r:.80} must be True or False")
    if not isinstance(declared.args, tuple | list) or not isinstance(declared.kwargs, Mapping):
        raise ValueError("args must be a tuple and kwargs a dict")
    if declared.name and not (isinstance(declared.name, str) and _NAME.fullmatch(declared.name)):
        raise ValueError(f"name={declared.name!r:.80} must be 1 to 50 letters, digits, '_', '.', '-', '/' or '@'")
    return Schedule(
        name=f"{task}:{declared.name}" if declared.name else task,
        cron=cron,
        every=every,
        timezone=timezone,
        args=tuple(declared.args),
        kwargs=dict(declared.kwargs),
        jitter=_span("jitter", declared.jitter, MOST_JITTER).total_seconds(),
        catch_up=declared.catch_up,
        overlap=declared.overlap,
    )


def _span(what: str, value: Any, most: float) -> timedelta:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise ValueError(f"{what} must be seconds or a timedelta, not {value!r:.80}")
    if not 0 <= seconds <= most:
        raise ValueError(f"{what} must be from 0 to {most:,.0f} seconds, not {value!r:.80}")
    return timedelta(seconds=seconds)
