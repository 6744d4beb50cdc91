"""`manage.py taskq_health`: for container health checks and Kubernetes probes."""

from __future__ import annotations

import json
import sys
import threading
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_taskq.broker import get_broker
from django_taskq.broker.census import Census, census
from django_taskq.broker.connection import Connections
from django_taskq.broker.location import Location
from django_taskq.conf import get_settings
from django_taskq.exceptions import TaskqError
from django_taskq.management.command import TaskqCommand, at_least
from django_taskq.management.probes import Probe, Verdict, ages, database_answers, depths, live, redis_answers

UNHEALTHY, UNREACHABLE = 1, 3


def depth_limit(text: str) -> tuple[str, int]:
    """An argparse type: QUEUE=N."""
    queue, equals, number = text.rpartition("=")
    if not equals or not queue or not number.isdecimal():
        raise ArgumentTypeError(f"{text!r} must be QUEUE=N, like mail=1000")
    return queue, int(number)


class Command(TaskqCommand):
    help = "Exit code 0: healthy; 1: not; 2: wrong options; 3: Redis or the database does not answer."
    requires_system_checks: list[str] = []  # it runs every few seconds

    def add_arguments(self, parser: CommandParser) -> None:
        """Without any of the first four: --ready."""
        add = parser.add_argument
        add("--live", action="store_true", help="a worker of this machine beats")
        add("--ready", action="store_true", help="Redis and the database answer")
        add(
            "--max-depth", action="append", type=depth_limit, default=[], metavar="QUEUE=N",
            help="at most N tasks are ready in QUEUE; may be given for several",
        )  # fmt: skip
        add("--max-age", type=at_least(0.0), metavar="SECONDS", help="no ready task has waited longer")
        add("--pid", type=at_least(1), metavar="PID", help="with --live: the worker whose supervisor this is")
        add(
            "--timeout", type=at_least(0.1, 600.0), default=5.0, metavar="SECONDS",
            help="what has not answered by then counts as away (5)",
        )  # fmt: skip
        add("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Looks once."""
        limits = dict(options["max_depth"])
        for queue in limits:
            if queue not in get_settings().queues:
                raise CommandError(f"--max-depth: queue {queue!r} is not declared in TASKQ['QUEUES'].", returncode=2)
        probes = _probes(options, limits)
        verdicts = {probe.verdict for probe in probes}
        code = UNREACHABLE if Verdict.UNKNOWN in verdicts else UNHEALTHY if Verdict.BAD in verdicts else 0
        if options["json"]:
            listed = [probe._asdict() for probe in probes]
            self.stdout.write(json.dumps({"healthy": not code, "checks": listed}))
        else:
            self.stdout.write("\n".join(f"{probe.verdict:<7} {probe.name}: {probe.text}" for probe in probes))
        if code:
            self.stdout.flush()
            sys.exit(code)


def _probes(options: dict[str, Any], limits: dict[str, int]) -> list[Probe]:
    ready = options["ready"] or not (options["live"] or limits or options["max_age"] is not None)
    timeout = options["timeout"]
    database = get_settings().database
    asked: list[Callable[[], Any]] = [lambda: _ask_redis(timeout)]
    if ready:
        asked.append(lambda: database_answers(database))
    counted, *records = _within(timeout, asked)
    seen, error = counted if counted is not None else (None, f"Redis does not answer within {timeout:g} s")
    found = [live(seen, options["pid"])] if options["live"] else []
    if ready or (seen is None and (limits or options["max_age"] is not None)):
        found.append(redis_answers(seen, error))
    if ready:
        away = Probe("database", Verdict.UNKNOWN, f"the database {database!r} does not answer within {timeout:g} s")
        found.append(records[0] or away)
    if seen is not None:
        found += depths(seen, limits)
        if options["max_age"] is not None:
            found.append(ages(seen, options["max_age"]))
    return found


def _ask_redis(timeout: float) -> tuple[Census | None, str]:
    settings = get_settings()
    location = Location(settings, socket_timeout=timeout, socket_connect_timeout=timeout)
    try:
        return census(Connections(location), get_broker().keys, settings.queues), ""
    except TaskqError as error:
        return None, str(error)


def _within(seconds: float, asked: list[Callable[[], Any]]) -> list[Any]:
    """The answers that come in time, all asked at once; None for the others, whose threads end with the process."""
    answers: list[Any] = [None] * len(asked)
    deadline = time.monotonic() + seconds

    def ask(position: int) -> None:
        try:
            answers[position] = asked[position]()
        except Exception as error:  # noqa: BLE001 - raised below, where somebody sees it
            answers[position] = error

    threads = [threading.Thread(target=ask, args=(position,), daemon=True) for position in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers
