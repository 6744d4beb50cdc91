"""`manage.py taskq_enqueue`: sends a task from a shell, or from cron."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec
from django.core.management.base import CommandError, CommandParser
from django.utils.dateparse import parse_datetime

from django_taskq.exceptions import ResultError, ResultTimeout, TaskFailed
from django_taskq.handle import TaskHandle
from django_taskq.management.command import TaskqCommand, at_least
from django_taskq.registry import all_tasks, find
from django_taskq.task import Task
from django_taskq.values import close_match

NO_RESULT, NOT_ENDED = 3, 4  # exit codes


class Command(TaskqCommand):
    help = "Sends a task. Exit codes: 0 sent, or with --wait succeeded; 1 not sent; 3 ended otherwise; 4 not ended yet."

    def add_arguments(self, parser: CommandParser) -> None:
        """Those of `task.using()` that make sense in a shell."""
        add = parser.add_argument
        add("task", metavar="NAME", help="the task's name, usually module.function")
        add("--args", dest="arguments", default="[]", metavar="JSON", help="arguments as a JSON array: '[7, \"x\"]'")
        add("--kwargs", dest="named", default="{}", metavar="JSON", help="named arguments as a JSON object")
        add("--queue", metavar="NAME", help="another queue than the task's own")
        add("--priority", type=int, metavar="N", help="-100 to 100")
        add("--run-after", metavar="WHEN", help="seconds from now, or a date and time in ISO 8601")
        add("--idempotency-key", metavar="KEY", help="send nothing if a task has this key")
        add("--wait", type=at_least(0.0), metavar="SECONDS", help="wait for its end, and print the result")
        add("--json", action="store_true", help="one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Sends it, prints its id, and waits if asked to."""
        task = find(options["task"])
        if task is None:
            names = [known.name for known in all_tasks()]
            raise CommandError(f"There is no task {options['task']!r}.{close_match(options['task'], names)}")
        call = task.using(**self._overrides(options))
        handle = call.delay(*_read(options["arguments"], list, "--args"), **_read(options["named"], dict, "--kwargs"))
        ending: dict[str, Any] = {}
        code = 0
        if options["wait"] is not None:
            code, ending = _wait(handle, options["wait"])
        self._print(task, handle, ending, as_json=options["json"])
        if code:
            sys.exit(code)

    def _overrides(self, options: dict[str, Any]) -> Any:
        given = {
            "queue_name": options["queue"], "priority": options["priority"],
            "idempotency_key": options["idempotency_key"],
            "run_after": None if options["run_after"] is None else _moment(options["run_after"]),
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}

    def _print(self, task: Task[..., Any], handle: TaskHandle[Any], ending: dict[str, Any], *, as_json: bool) -> None:
        if as_json:
            about = {"id": handle.id, "task": task.name, "created": handle.created, **ending}
            self.stdout.write(json.dumps(about))
            return
        self.stdout.write(handle.id)
        if not handle.created:
            self.stderr.write("An earlier task has this idempotency key; nothing was sent.", style_func=str)
        if "error" in ending:
            self.stderr.write(ending["error"])
        elif ending:
            self.stdout.write(json.dumps(ending["result"]))


def _wait(handle: TaskHandle[Any], seconds: float) -> tuple[int, dict[str, Any]]:
    """Exit code, and what became of it."""
    try:
        result = msgspec.to_builtins(handle.get(timeout=seconds))
    except ResultTimeout as error:
        return NOT_ENDED, {"status": str(handle.status), "error": str(error)}
    except TaskFailed as error:
        return NO_RESULT, {"status": error.status, "error": str(error)}
    except ResultError as error:
        return 0, {"status": str(handle.status), "error": str(error)}
    return 0, {"status": str(handle.status), "result": result}


def _read(text: str, kind: type, option: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CommandError(f"{option} is not JSON: {error}. Quote it for the shell: {option} '[1, \"two\"]'") from error
    if not isinstance(value, kind):
        raise CommandError(f"{option} takes a JSON {'array' if kind is list else 'object'}, not {text!r:.80}.")
    return value


def _moment(text: str) -> Any:
    """Seconds, or a datetime."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None:
        raise CommandError(f"--run-after takes seconds, or a time like 2026-12-01T06:30:00+01:00, not {text!r}.")
    return moment
