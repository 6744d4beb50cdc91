"""What the commands share: errors in one line, a quiet end at Ctrl-C and at a closed pipe, questions, numbers."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError

from django_taskq.exceptions import TaskqError

N = TypeVar("N", int, float)

CLOSED_PIPE, INTERRUPTED = 141, 130  # exit codes, as of a shell's own commands


class TaskqCommand(BaseCommand):
    """Exit codes: 0, 1 with a line of text, 2 for wrong options."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Runs the command; what the queue or the database refuses is a CommandError."""
        try:
            output = super().execute(*args, **options)
            self.stdout.flush()
        except TaskqError as error:
            raise CommandError(str(error)) from error
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(f"The database cannot be used: {error}") from error
        except BrokenPipeError:
            # Whoever reads has seen enough. Python flushes once more at exit, and must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(CLOSED_PIPE)
        except KeyboardInterrupt:
            raise CommandError("Interrupted.", returncode=INTERRUPTED) from None
        return output

    def confirm(self, question: str, *, answer: str = "y") -> None:
        """Asks on a terminal; CommandError for any other answer, and where nobody can be asked."""
        if not sys.stdin.isatty():
            raise CommandError(f"{question} Nobody can answer here: give --yes.")
        hint = "[y/N]" if answer == "y" else f"Type {answer} to go on:"
        self.stderr.write(f"{question} {hint} ", style_func=str, ending="")
        self.stderr.flush()
        given = sys.stdin.readline().strip()
        if given != answer and (answer, given) != ("y", "Y"):
            raise CommandError("Nothing was changed.")


@contextmanager
def until_ctrl_c() -> Iterator[Event]:
    """A body that Ctrl-C ends, quietly. It has to look at the event as well, which says that Ctrl-C was pressed:
    the interruption may come where a library swallows whatever is raised."""
    pressed = Event()

    def interrupt(*_: object) -> None:
        pressed.set()
        raise KeyboardInterrupt

    if current_thread() is not main_thread():  # which alone takes signals
        yield pressed
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield pressed
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, before)


def at_least(minimum: N, most: N | None = None) -> Callable[[str], N]:
    """An argparse type: a number of the same kind, with bounds."""
    kind = type(minimum)
    what = {int: "a whole number", float: "a number"}[kind]
    bounds = f"{minimum:g} or more" if most is None else f"from {minimum:g} to {most:g}"

    def parse(text: str) -> N:
        try:
            number = kind(text)
        except ValueError:
            number = kind(minimum - 1)
        if not (minimum <= number and (most is None or number <= most)):
            raise ArgumentTypeError(f"{text!r} must be {what}, {bounds}")
        return number

    return parse
